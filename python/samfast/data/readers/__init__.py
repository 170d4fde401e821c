"""One module a data format; ``base`` says what a format has to provide."""
