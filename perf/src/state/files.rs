//! The files of a stopped or running server: what they take on disk, and their pages in the page cache.

use rustix::fs::{Advice, fadvise};
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Every regular file below `directory`. One that goes away meanwhile is left out.
fn files(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let (mut found, mut folders) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(folder) = folders.pop() {
        let entries = match fs::read_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            entries => entries?,
        };
        for entry in entries {
            let entry = entry?;
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => folders.push(entry.path()),
                Ok(kind) if kind.is_file() => found.push(entry.path()),
                _ => {}
            }
        }
    }
    Ok(found)
}

/// What the files below `directory` take on disk.
pub fn bytes_on_disk(directory: &Path) -> io::Result<u64> {
    // Blocks are counted in units of 512 bytes, whatever the file system's own are.
    Ok(files(directory)?.iter().filter_map(|file| fs::metadata(file).ok()).map(|it| it.blocks() * 512).sum())
}

/// The largest file below `directory` whose name begins with `prefix`.
pub fn largest(directory: &Path, prefix: &str) -> io::Result<Option<u64>> {
    let named = |file: &PathBuf| file.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix));
    Ok(files(directory)?
        .iter()
        .filter(|file| named(file))
        .filter_map(|it| fs::metadata(it).ok())
        .map(|it| it.len())
        .max())
}

/// Drops the pages of the files below `directory` from the page cache, the written ones after they are on disk.
pub fn drop_page_cache(directory: &Path) -> io::Result<()> {
    for path in files(directory)? {
        let file = File::open(&path)?;
        file.sync_all()?;
        fadvise(&file, 0, None, Advice::DontNeed)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_all_depths_are_counted() {
        let directory = tempfile::tempdir().expect("a directory");
        let deep = directory.path().join("a/b");
        fs::create_dir_all(&deep).expect("folders");
        fs::write(deep.join("snapshot.1"), vec![7; 9_000]).expect("a file");
        fs::write(directory.path().join("snapshot.2"), vec![7; 12_000]).expect("a file");
        fs::write(directory.path().join("log.3"), vec![7; 50_000]).expect("a file");
        // Blocks are given out when data is written back.
        drop_page_cache(directory.path()).expect("a sound disk");
        assert!((71_000..200_000).contains(&bytes_on_disk(directory.path()).expect("a listing")));
        assert_eq!(largest(directory.path(), "snapshot.").expect("a listing"), Some(12_000));
        assert_eq!(largest(directory.path(), "head.").expect("a listing"), None);
        assert_eq!(bytes_on_disk(&directory.path().join("none")).expect("an empty listing"), 0);
    }
}
