//! A bounded number of open files, read at positions by several threads.

use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Opens files when they are first read, and closes the one unused for longest when there are too many.
///
/// More than the limit are open only while more threads than that read at once.
#[derive(Debug)]
pub(crate) struct Files {
    paths: Vec<PathBuf>,
    limit: usize,
    /// The one unused for longest first.
    open: Mutex<Vec<(usize, Arc<File>)>>,
}

impl Files {
    pub(crate) fn new(paths: Vec<PathBuf>, limit: usize) -> Self {
        Self { paths, limit, open: Mutex::default() }
    }

    pub(crate) fn len(&self) -> usize {
        self.paths.len()
    }

    /// File `index`, open for reading. The lock is not held while the system opens or closes files.
    pub(crate) fn get(&self, index: usize) -> io::Result<Arc<File>> {
        if let Some(file) = self.with(|open| take(open, index).inspect(|file| open.push((index, Arc::clone(file))))) {
            return Ok(file);
        }
        let file = Arc::new(File::open(&self.paths[index])?);
        let (file, _evicted) = self.with(|open| {
            let file = take(open, index).unwrap_or(file);
            open.push((index, Arc::clone(&file)));
            let excess = open.len().saturating_sub(self.limit);
            (file, open.drain(..excess).collect::<Vec<_>>())
        });
        Ok(file)
    }

    /// Close all files that are not being read.
    pub(crate) fn close(&self) {
        drop(self.with(std::mem::take));
    }

    fn with<T>(&self, act: impl FnOnce(&mut Vec<(usize, Arc<File>)>) -> T) -> T {
        act(&mut self.open.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn take(open: &mut Vec<(usize, Arc<File>)>, index: usize) -> Option<Arc<File>> {
    let at = open.iter().position(|(other, _)| *other == index)?;
    Some(open.remove(at).1)
}

/// Fill `out` with the bytes of `file` from `offset`, without moving any position that others share.
pub(crate) fn read_at(file: &File, out: &mut [u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_exact_at(file, out, offset);
    #[cfg(windows)]
    {
        let mut done = 0;
        while done < out.len() {
            match std::os::windows::fs::FileExt::seek_read(file, &mut out[done..], offset + done as u64) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Files, read_at};

    #[test]
    fn the_one_unused_for_longest_is_closed() {
        let folder = std::env::temp_dir().join(format!("samfast-files-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let paths: Vec<_> = (0..4u8).map(|i| folder.join(i.to_string())).collect();
        for (i, path) in paths.iter().enumerate() {
            std::fs::write(path, [i as u8; 10]).unwrap();
        }
        let files = Files::new(paths, 2);
        let open = |files: &Files| files.with(|open| open.iter().map(|(index, _)| *index).collect::<Vec<_>>());
        for (index, expected) in [(0, &[0][..]), (1, &[0, 1]), (0, &[1, 0]), (3, &[0, 3]), (2, &[3, 2])] {
            let mut byte = [9];
            read_at(&files.get(index).unwrap(), &mut byte, 9).unwrap();
            assert_eq!((byte, &open(&files)[..]), ([index as u8], expected));
        }
        let kept = files.get(2).unwrap();
        assert!(Arc::ptr_eq(&kept, &files.get(2).unwrap()));
        assert!(read_at(&kept, &mut [0; 2], 9).is_err());
        files.close();
        assert_eq!(open(&files), []);
        read_at(&kept, &mut [0], 0).unwrap();
        std::fs::remove_dir_all(folder).unwrap();
    }
}
