"""What the headline benchmark compares: public scripts, a naive cache, and samfast, each in a process of its own."""
