//! Whose a file is and who may read it, taken over by the file that will have its name.

use std::fs::{File, Metadata, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use rustix::fs::{XattrFlags, fremovexattr, fsetxattr, getxattr, listxattr};
use rustix::io::Errno;

use crate::{Result, StorageError};

/// The access control list beside the mode.
const ACCESS_LIST: &[u8] = b"system.posix_acl_access";
/// Linux gives no more, of names and of a value alike.
const ATTRIBUTES_BYTES_MAX: usize = 64 << 10;

/// Gives a new file the owner, mode, access control list and extended attributes of another one.
///
/// What the system does not let us take over makes the file readable by fewer, never by more.
///
/// # Errors
/// `Io` where the mode cannot be set.
pub(super) fn take_over(file: &File, of: &Path) -> Result<()> {
    let Ok(metadata) = std::fs::metadata(of) else { return Ok(()) };
    let mut mode = metadata.mode() & 0o7777;
    // What the directory gives to its new files is not what the other file has.
    let is_bare =
        matches!(fremovexattr(file, ACCESS_LIST), Ok(()) | Err(Errno::NODATA | Errno::NOTSUP));
    if !take_over_group(file, &metadata) || !is_bare {
        // The group's rights would be those of somebody else.
        mode &= !0o070;
    }
    let set = |mode| file.set_permissions(Permissions::from_mode(mode));
    let fail = |error| StorageError::io("keep the file's mode", error);
    set(mode).map_err(fail)?;
    if !take_over_attributes(file, of) {
        // With an access control list these bits are the most that anybody named in it may do.
        set(mode & !0o070).map_err(fail)?;
    }
    Ok(())
}

/// Owner and group, or the group alone; only the superuser may give a file away.
fn take_over_group(file: &File, metadata: &Metadata) -> bool {
    let (owner, group) = (metadata.uid(), metadata.gid());
    let is_there = || file.metadata().is_ok_and(|now| now.gid() == group);
    fchown(file, Some(owner), Some(group)).is_ok()
        || is_there()
        || fchown(file, None, Some(group)).is_ok()
}

/// Copies all attributes that can be; false where there is an access control list and it cannot.
fn take_over_attributes(file: &File, of: &Path) -> bool {
    let mut names = vec![0; ATTRIBUTES_BYTES_MAX];
    let Ok(len) = listxattr(of, &mut names[..]) else { return true };
    let mut value = vec![0; ATTRIBUTES_BYTES_MAX];
    let mut copied = true;
    for name in names[..len].split(|byte| *byte == 0).filter(|name| !name.is_empty()) {
        let read = getxattr(of, name, &mut value[..]);
        let set = read.and_then(|len| fsetxattr(file, name, &value[..len], XattrFlags::empty()));
        copied &= set.is_ok() || name != ACCESS_LIST;
    }
    copied
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An access control list: the owner reads and writes, user 12345 reads, others nothing.
    const LIST: [u8; 44] = {
        let mut list = [0; 44];
        list[0] = 2;
        let entries: [(u8, u8, u32); 5] = [
            (0x01, 6, u32::MAX),
            (0x02, 4, 12_345),
            (0x04, 0, u32::MAX),
            (0x10, 4, u32::MAX),
            (0x20, 0, u32::MAX),
        ];
        let mut index = 0;
        while index < entries.len() {
            let (tag, rights, id) = entries[index];
            let at = 4 + 8 * index;
            list[at] = tag;
            list[at + 2] = rights;
            let id = id.to_le_bytes();
            let mut byte = 0;
            while byte < 4 {
                list[at + 4 + byte] = id[byte];
                byte += 1;
            }
            index += 1;
        }
        list
    };

    #[test]
    fn access_list_and_attributes_are_taken_over() {
        let folder = tempfile::tempdir().expect("a folder");
        let (old, new) = (folder.path().join("old"), folder.path().join("new"));
        let file = File::create(&old).expect("created");
        let note: &[u8] = b"user.note";
        let supported = fsetxattr(&file, ACCESS_LIST, &LIST, XattrFlags::empty()).is_ok()
            && fsetxattr(&file, note, b"kept", XattrFlags::empty()).is_ok();
        if !supported {
            // A file system without them has nothing to take over.
            return;
        }
        let made = File::create(&new).expect("created");
        take_over(&made, &old).expect("taken over");
        let get = |name: &[u8]| {
            let mut value = [0; 100];
            let len = getxattr(&new, name, &mut value[..]).expect("there");
            value[..len].to_vec()
        };
        assert_eq!((get(ACCESS_LIST), get(note)), (LIST.to_vec(), b"kept".to_vec()));
        let mode = |path| std::fs::metadata(path).expect("there").mode();
        assert_eq!(mode(&new), mode(&old));
        // One that the directory gave to a new file goes.
        fremovexattr(&file, ACCESS_LIST).expect("removed");
        take_over(&made, &old).expect("taken over");
        let gone = getxattr(&new, ACCESS_LIST, &mut [0; 100][..]);
        assert_eq!(gone, Err(Errno::NODATA));
    }
}
