//! The files beside a database: their names, and how they are told from what is somebody else's.

use std::path::Path;

use crate::control::DIR_SYNCED;
use crate::identity::{CHECKPOINT_MAGIC, FRAMES_START, MAGIC, SECOND_COPY};

/// What a checkpoint's name has behind the database's.
pub const CHECKPOINT: &str = "-ckpt";
/// What stands between a database's name and the random part of a temporary name.
pub(super) const TEMPORARY: &str = "-tmp-";
const RANDOM_DIGITS: usize = 16;
/// So much of a file tells what it is.
pub(super) const TELLING_BYTES: usize = FRAMES_START as usize;

/// Whether the name is one for a file beside a database, which may be replaced or removed.
#[must_use]
pub fn is_reserved(path: &Path) -> bool {
    let Some(name) = path.file_name() else { return false };
    let name = name.to_string_lossy();
    name.ends_with(CHECKPOINT) || name.rsplit_once(TEMPORARY).is_some_and(|(_, r)| is_random(r))
}

/// Whether `file` has a name that only a process that died while it wrote `database` leaves.
pub(super) fn is_temporary_of(database: &Path, file: &Path) -> bool {
    let (Some(name), Some(file_name)) = (database.file_name(), file.file_name()) else {
        return false;
    };
    let (name, file_name) = (name.to_string_lossy(), file_name.to_string_lossy());
    ["", CHECKPOINT].iter().any(|middle| {
        let rest = file_name.strip_prefix(&format!("{name}{middle}{TEMPORARY}"));
        rest.is_some_and(is_random)
    })
}

fn is_random(digits: &str) -> bool {
    digits.len() == RANDOM_DIGITS && digits.bytes().all(|b| b.is_ascii_hexdigit())
}

/// Whether a file that begins so was never finished: a new file, a copy of a database that did not
/// get its name, or a checkpoint. One that is somebody's database is none of these.
pub(super) fn is_unfinished(head: &[u8]) -> bool {
    if is_database(head) {
        let word = head.get(DIR_SYNCED as usize..).and_then(|rest| rest.first_chunk::<8>());
        // It is set once the file has its name for good.
        return word.is_none_or(|word| *word == [0; 8]);
    }
    is_blank(head) || is_marked(head)
}

/// Whether a file that begins so is a checkpoint, which a newer one may replace; one of the database
/// with that id also where it is damaged.
#[must_use]
pub fn is_checkpoint(head: &[u8], database_id: &[u8; 16]) -> bool {
    let is_its = head.get(16..32) == Some(database_id);
    !is_database(head) && (is_blank(head) || is_marked(head) || is_its)
}

fn is_database(head: &[u8]) -> bool {
    [0, SECOND_COPY].iter().any(|at| head.get(*at..).is_some_and(|rest| rest.starts_with(&MAGIC)))
}

fn is_blank(head: &[u8]) -> bool {
    head.iter().take(8).all(|byte| *byte == 0)
}

fn is_marked(head: &[u8]) -> bool {
    CHECKPOINT_MAGIC.starts_with(&head[..head.len().min(8)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::Identity;

    #[test]
    fn names_that_files_beside_a_database_have_are_reserved() {
        let reserved = |name: &str| is_reserved(Path::new(name));
        for name in
            ["a-ckpt", "d/a.db-ckpt", "a-tmp-0123456789abcdef", "a-ckpt-tmp-0123456789ABCDEF"]
        {
            assert!(reserved(name), "{name}");
        }
        let others =
            ["a", "a-ckpt.db", "ckpt", "a-tmp-", "a-tmp-notes", "a-tmp-0123456789abcdef.txt"];
        others.iter().for_each(|name| assert!(!reserved(name), "{name}"));
    }

    #[test]
    fn a_database_is_no_checkpoint_and_unfinished_only_without_a_name() {
        let id = [7; 16];
        let mut head = Identity { database_id: id, ..Identity::UNNAMED }.page();
        head.resize(TELLING_BYTES, 0);
        assert!(is_unfinished(&head) && !is_checkpoint(&head, &id));
        head[DIR_SYNCED as usize] = 1;
        assert!(!is_unfinished(&head) && !is_checkpoint(&head, &id));
        // Its second copy tells, too.
        head[..8].fill(0);
        assert!(!is_unfinished(&head) && !is_checkpoint(&head, &id));
    }

    #[test]
    fn a_checkpoint_is_known_by_its_mark_or_its_database() {
        let id = [7; 16];
        let mut head = vec![1; 64];
        assert!(!is_unfinished(&head) && !is_checkpoint(&head, &id));
        head[16..32].copy_from_slice(&id);
        assert!(!is_unfinished(&head) && is_checkpoint(&head, &id));
        head[..8].copy_from_slice(&CHECKPOINT_MAGIC);
        assert!(is_unfinished(&head) && is_checkpoint(&head, &[8; 16]));
        assert!(is_unfinished(&[]) && is_checkpoint(&[], &id));
    }
}
