//! The other seam: opening, replacing and removing files.

mod attributes;
mod beside;
#[cfg(feature = "simulation")]
mod simulated;

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::lock::{FileLocks, Locks};
use crate::region::{DiskRegion, Region};
use crate::{Result, StorageError};

use attributes::take_over;
use beside::{TELLING_BYTES, TEMPORARY, is_temporary_of, is_unfinished};

pub use beside::{CHECKPOINT, is_checkpoint, is_reserved};
#[cfg(feature = "simulation")]
pub use simulated::SimulatedDirectory;

/// A file that was opened: its bytes and, where it can be locked, its locks.
pub struct Opened {
    /// The bytes.
    pub region: Arc<dyn Region>,
    /// Locks on a descriptor of their own.
    pub locks: Option<Box<dyn Locks>>,
    /// Device and inode.
    pub inode: (u64, u64),
    /// Whether it was not there before.
    pub created: bool,
}

/// Ways to reach files beside each other.
pub trait Directory: Send + Sync {
    /// Opens a file; `create` makes an empty one where it is missing.
    ///
    /// # Errors
    /// `Io`.
    fn open(&self, path: &Path, write: bool, create: bool) -> Result<Opened>;

    /// Creates a file beside `path` under a new name, for whom `path` is: with its owner, mode,
    /// access control list and other attributes.
    ///
    /// # Errors
    /// `Io`.
    fn create_beside(&self, path: &Path) -> Result<(PathBuf, Opened)>;

    /// As `create_beside`, but for whom `model` is, where `path` is yet to be.
    ///
    /// # Errors
    /// `Io`.
    fn create_like(&self, path: &Path, model: &Path) -> Result<(PathBuf, Opened)> {
        let _ = model;
        self.create_beside(path)
    }

    /// Puts `from` in the place of `to`, durably.
    ///
    /// # Errors
    /// `Io`.
    fn replace(&self, from: &Path, to: &Path) -> Result<()>;

    /// Renames `from` to `to`, durably; false, and nothing changed, where `to` names something.
    ///
    /// This body is for directories that nobody else changes meanwhile.
    ///
    /// # Errors
    /// `Io`.
    fn place(&self, from: &Path, to: &Path) -> Result<bool> {
        if self.inode(to).is_ok() {
            return Ok(false);
        }
        self.replace(from, to).map(|()| true)
    }

    /// Removes a file if it is there.
    ///
    /// # Errors
    /// `Io`.
    fn remove(&self, path: &Path) -> Result<()>;

    /// Makes the directory entry of `path` durable.
    ///
    /// # Errors
    /// `Io`.
    fn sync_parent(&self, path: &Path) -> Result<()>;

    /// Whether several processes may write to the file, or to one made there, at once; the error
    /// says why not.
    ///
    /// # Errors
    /// `Unsupported` on a file system that does not keep maps and locks coherent, `Io`.
    fn check_sharing(&self, path: &Path) -> Result<()>;

    /// Device and inode of what `path` names now.
    ///
    /// # Errors
    /// `Io`.
    fn inode(&self, path: &Path) -> Result<(u64, u64)>;

    /// How many names the file has, hard links all.
    ///
    /// # Errors
    /// `Io`.
    fn names(&self, path: &Path) -> Result<u64> {
        let _ = path;
        Ok(1)
    }

    /// As much of the beginning of a file as tells what it is.
    ///
    /// # Errors
    /// `Io`.
    fn head(&self, path: &Path) -> Result<Vec<u8>> {
        let opened = self.open(path, false, false)?;
        let len = opened.region.len().min(TELLING_BYTES as u64) as usize;
        Ok(opened.region.bytes(0, len).unwrap_or_default().to_vec())
    }

    /// When the file was last changed; `None` where that is not known.
    ///
    /// # Errors
    /// `Io`.
    fn modified(&self, path: &Path) -> Result<Option<SystemTime>> {
        let _ = path;
        Ok(None)
    }

    /// Removes files that died compactions of `path` left; call it with the write lock held.
    ///
    /// What has such a name and is something else stays.
    ///
    /// # Errors
    /// `Io`.
    fn remove_stale(&self, path: &Path) -> Result<()>;
}

/// The file system.
#[derive(Debug, Default)]
pub struct DiskDirectory;

/// File systems behind which there may be another kernel, by their numbers in `statfs`.
const INCOHERENT: [(u64, &str); 18] = [
    (0x6969, "NFS"),
    (0x517b, "SMB"),
    (0xff53_4d42, "CIFS"),
    (0xfe53_4d42, "SMB2"),
    (0x0102_1997, "9p"),
    (0x6573_5546, "FUSE or virtiofs"),
    (0x00c3_6400, "Ceph"),
    (0x5346_414f, "AFS"),
    (0x6b41_4653, "AFS"),
    (0x7375_7245, "Coda"),
    (0x7461_636f, "OCFS2"),
    (0x0116_1970, "GFS2"),
    (0x0bd0_0bd3, "Lustre"),
    (0x4750_4653, "GPFS"),
    (0x1983_0326, "BeeGFS"),
    (0x2003_0528, "OrangeFS"),
    (0x786f_4256, "a folder shared by VirtualBox"),
    (0xbacb_acbc, "a folder shared by VMware"),
];

/// Refuses sharing on a file system of that number in `statfs`, and says why.
fn check_coherence(number: u64) -> Result<()> {
    // Some systems give it with the sign of 32 bits.
    let number = number & 0xffff_ffff;
    match INCOHERENT.iter().find(|(magic, _)| *magic == number) {
        Some((_, name)) => Err(StorageError::Unsupported {
            what: format!(
                "access 'shared' on {name}: two machines that write there share neither maps \
                 nor locks; open it with access 'exclusive'"
            ),
        }),
        None => Ok(()),
    }
}

impl Directory for DiskDirectory {
    fn open(&self, path: &Path, write: bool, create: bool) -> Result<Opened> {
        let options = || OpenOptions::new().read(true).write(write).clone();
        let fail = |error| StorageError::io("open the file", error);
        loop {
            let (file, created) = match options().open(path) {
                Err(error) if create && error.kind() == ErrorKind::NotFound => {
                    match options().create_new(true).open(path) {
                        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                            (options().create(true).open(path).map_err(fail)?, false)
                        }
                        created => (created.map_err(fail)?, true),
                    }
                }
                opened => (opened.map_err(fail)?, false),
            };
            let lock_file = match options().open(path) {
                // Who created it could not go on and took it away.
                Err(error) if create && error.kind() == ErrorKind::NotFound => continue,
                opened => opened.map_err(fail)?,
            };
            let (first, second) = (inode_of(&file)?, inode_of(&lock_file)?);
            if first == second && self.inode(path).is_ok_and(|inode| inode == first) {
                let region = Arc::new(DiskRegion::open(file, write)?);
                return Ok(Opened {
                    region,
                    locks: Some(Box::new(FileLocks::new(lock_file))),
                    inode: first,
                    created,
                });
            }
        }
    }

    fn create_beside(&self, path: &Path) -> Result<(PathBuf, Opened)> {
        self.create_like(path, path)
    }

    fn create_like(&self, path: &Path, model: &Path) -> Result<(PathBuf, Opened)> {
        loop {
            let mut random = [0; 8];
            getrandom::fill(&mut random)
                .map_err(|e| StorageError::io("draw a temporary name", e.into()))?;
            let mut name = path.as_os_str().to_owned();
            name.push(format!("{TEMPORARY}{:016x}", u64::from_le_bytes(random)));
            let name = PathBuf::from(name);
            let mut options = OpenOptions::new();
            let options = options.read(true).write(true).create_new(true).mode(0o600);
            match options.open(&name) {
                Ok(file) => {
                    take_over(&file, model)?;
                    let opened = self.open(&name, true, false)?;
                    return Ok((name, opened));
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(StorageError::io("create a temporary file", error)),
            }
        }
    }

    fn replace(&self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to).map_err(|e| StorageError::io("replace the file", e))?;
        self.sync_parent(to)
    }

    fn place(&self, from: &Path, to: &Path) -> Result<bool> {
        let renamed = renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE);
        let placed = match renamed {
            Ok(()) => Ok(()),
            // A second name is refused as well where there is one, on every file system with links.
            Err(Errno::INVAL | Errno::NOSYS | Errno::OPNOTSUPP) => {
                std::fs::hard_link(from, to).and_then(|()| std::fs::remove_file(from))
            }
            Err(errno) => Err(errno.into()),
        };
        match placed {
            Ok(()) => self.sync_parent(to).map(|()| true),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(StorageError::io("put the file in place", error)),
        }
    }

    fn remove(&self, path: &Path) -> Result<()> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(StorageError::io("remove a file", e)),
            _ => Ok(()),
        }
    }

    fn sync_parent(&self, path: &Path) -> Result<()> {
        let synced = File::open(parent_of(path)).and_then(|directory| directory.sync_all());
        synced.map_err(|e| StorageError::io("sync the directory", e))
    }

    fn check_sharing(&self, path: &Path) -> Result<()> {
        let found = match rustix::fs::statfs(path) {
            // A file that is yet to be made comes where its directory is.
            Err(Errno::NOENT) => rustix::fs::statfs(parent_of(path)),
            // Opening it will say so.
            Err(Errno::ACCESS) => return Ok(()),
            found => found,
        };
        let found = found.map_err(|e| StorageError::errno("ask for the file system", e))?;
        check_coherence(found.f_type as u64)
    }

    fn inode(&self, path: &Path) -> Result<(u64, u64)> {
        let metadata = std::fs::metadata(path);
        let metadata = metadata.map_err(|e| StorageError::io("look at the path", e))?;
        Ok((metadata.dev(), metadata.ino()))
    }

    fn names(&self, path: &Path) -> Result<u64> {
        let metadata = std::fs::metadata(path);
        metadata.map(|found| found.nlink()).map_err(|e| StorageError::io("look at the path", e))
    }

    fn head(&self, path: &Path) -> Result<Vec<u8>> {
        let look = |error| StorageError::io("look at the file", error);
        // A pipe would never answer.
        if !std::fs::metadata(path).map_err(look)?.is_file() {
            return Err(look(ErrorKind::InvalidInput.into()));
        }
        let mut head = Vec::with_capacity(TELLING_BYTES);
        let file = File::open(path).map_err(look)?;
        file.take(TELLING_BYTES as u64).read_to_end(&mut head).map_err(look)?;
        Ok(head)
    }

    fn modified(&self, path: &Path) -> Result<Option<SystemTime>> {
        let modified = std::fs::metadata(path).and_then(|metadata| metadata.modified());
        modified.map(Some).map_err(|e| StorageError::io("look at the file", e))
    }

    fn remove_stale(&self, path: &Path) -> Result<()> {
        let Some(parent) = path.parent() else { return Ok(()) };
        let entries = std::fs::read_dir(parent);
        for entry in entries.map_err(|e| StorageError::io("list the directory", e))?.flatten() {
            let is_stale = is_temporary_of(path, &entry.path())
                && self.head(&entry.path()).is_ok_and(|head| is_unfinished(&head));
            if is_stale {
                self.remove(&entry.path())?;
            }
        }
        Ok(())
    }
}

fn parent_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn inode_of(file: &File) -> Result<(u64, u64)> {
    let metadata = file.metadata().map_err(|e| StorageError::io("look at the file", e))?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn sharing_is_refused_by_the_number_of_the_file_system() {
        let refused = [
            (0x6969, "NFS"),
            (0x517b, "SMB"),
            (0xff53_4d42, "CIFS"),
            (0xfe53_4d42, "SMB2"),
            (0x0102_1997, "9p"),
            (0x6573_5546, "FUSE"),
            (0x00c3_6400, "Ceph"),
            (0x0bd0_0bd3, "Lustre"),
        ];
        for (number, name) in refused {
            let found = check_coherence(number).expect_err(name).to_string();
            assert!(found.contains(name) && found.contains("'exclusive'"), "{found}");
            // As a system with a signed number of 32 bits widens it.
            assert!(check_coherence(number | 0xffff_ffff_0000_0000).is_err());
        }
        // ext4, XFS, btrfs, tmpfs, overlay, F2FS, ZFS.
        let local: [u64; 7] =
            [0xef53, 0x5846_5342, 0x9123_683e, 0x0102_1994, 0x794c_7630, 0xf2f5_2010, 0x2fc1_2fc1];
        for number in local {
            check_coherence(number).expect("a local file system");
        }
    }

    #[test]
    fn sharing_of_a_file_to_be_is_asked_of_its_directory() {
        let folder = tempfile::tempdir().expect("a folder");
        DiskDirectory.check_sharing(&folder.path().join("new")).expect("a local file system");
        let missing = folder.path().join("missing").join("new");
        assert!(matches!(DiskDirectory.check_sharing(&missing), Err(StorageError::Io { .. })));
    }

    #[test]
    fn place_moves_once_and_never_replaces() {
        let folder = tempfile::tempdir().expect("a folder");
        let target = folder.path().join("target");
        let place = |content: &[u8]| {
            let (name, _) = DiskDirectory.create_beside(&target).expect("created");
            std::fs::write(&name, content).expect("written");
            let placed = DiskDirectory.place(&name, &target).expect("asked");
            (placed, name.exists())
        };
        assert_eq!(place(b"first"), (true, false));
        assert_eq!(place(b"second"), (false, true));
        assert_eq!(std::fs::read(&target).expect("read"), b"first");
    }

    #[test]
    fn a_file_gets_the_mode_of_its_model() {
        let folder = tempfile::tempdir().expect("a folder");
        let model = folder.path().join("model");
        std::fs::write(&model, b"").expect("written");
        std::fs::set_permissions(&model, std::fs::Permissions::from_mode(0o640)).expect("set");
        let target = folder.path().join("target");
        let (name, _) = DiskDirectory.create_like(&target, &model).expect("created");
        let mode = std::fs::metadata(&name).expect("there").mode();
        assert_eq!(mode & 0o7777, 0o640);
        let (name, _) = DiskDirectory.create_beside(&target).expect("created");
        let mode = std::fs::metadata(&name).expect("there").mode();
        assert_eq!(mode & 0o7777, 0o600);
    }
}
