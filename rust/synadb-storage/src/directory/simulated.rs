//! A simulated directory, as one process sees it.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Directory, Opened, TEMPORARY, is_temporary_of, is_unfinished};
use crate::lock::SimulatedLocks;
use crate::region::SimulatedRegion;
use crate::simulation::{Event, Medium, Operation, Process, State, Verdict};
use crate::{Result, StorageError};

/// Device number of all simulated files.
const DEVICE: u64 = 1;

/// A process over a medium. Several over one medium are several processes on one machine.
pub struct SimulatedDirectory {
    medium: Arc<Medium>,
    process: Arc<Process>,
    unsupported: Mutex<Option<String>>,
}

impl SimulatedDirectory {
    /// A new process.
    #[must_use]
    pub fn new(medium: &Arc<Medium>) -> Self {
        let process = Arc::new(Process::default());
        Self { medium: Arc::clone(medium), process, unsupported: Mutex::new(None) }
    }

    /// The process, to kill it and to make its operations fail.
    #[must_use]
    pub fn process(&self) -> &Arc<Process> {
        &self.process
    }

    /// From now on the medium may not be shared.
    pub fn refuse_sharing(&self, what: &str) {
        let mut unsupported = self.unsupported.lock().unwrap_or_else(PoisonError::into_inner);
        *unsupported = Some(what.to_owned());
    }

    fn opened(&self, state: &mut State, number: usize, write: bool) -> Result<Opened> {
        self.process.attempt(Operation::Map, "map the log")?;
        let file = Arc::clone(&state.files[number].live);
        let region = SimulatedRegion::open(&self.medium, &self.process, number, file, write);
        let locks = SimulatedLocks::new(&self.medium, &self.process, number, state.number());
        let inode = (DEVICE, number as u64);
        Ok(Opened { region: Arc::new(region), locks: Some(Box::new(locks)), inode, created: false })
    }
}

fn missing(action: &'static str) -> StorageError {
    StorageError::io(action, std::io::ErrorKind::NotFound.into())
}

impl Directory for SimulatedDirectory {
    fn open(&self, path: &Path, write: bool, create: bool) -> Result<Opened> {
        self.process.attempt(Operation::Open, "open the file")?;
        let known = self.medium.lock().names.get(path).copied();
        if known.is_none() {
            if !create {
                return Err(missing("open the file"));
            }
            self.process.attempt(Operation::Create, "open the file")?;
        }
        let mut state = self.medium.lock();
        let number = known.map_or_else(|| state.create(path.to_owned()), Ok)?;
        let opened = self.opened(&mut state, number, write)?;
        Ok(Opened { created: known.is_none(), ..opened })
    }

    fn create_beside(&self, path: &Path) -> Result<(PathBuf, Opened)> {
        self.process.attempt(Operation::Create, "create a temporary file")?;
        let mut state = self.medium.lock();
        let name = loop {
            let mut name = path.as_os_str().to_owned();
            name.push(format!("{TEMPORARY}{:016x}", state.number()));
            // A process that died before a crash may have left it.
            if !state.names.contains_key(Path::new(&name)) {
                break PathBuf::from(name);
            }
        };
        let number = state.create(name.clone())?;
        let opened = self.opened(&mut state, number, true)?;
        Ok((name, opened))
    }

    fn replace(&self, from: &Path, to: &Path) -> Result<()> {
        if self.process.attempt(Operation::Rename, "replace the file")? != Verdict::Lie {
            let mut state = self.medium.lock();
            let number = state.names.remove(from).ok_or_else(|| missing("replace the file"))?;
            state.names.insert(to.to_owned(), number);
            state.log.push(Event::Rename { from: from.to_owned(), to: to.to_owned() });
        }
        self.sync_parent(to)
    }

    fn remove(&self, path: &Path) -> Result<()> {
        self.process.attempt(Operation::Remove, "remove a file")?;
        let mut state = self.medium.lock();
        if state.names.remove(path).is_some() {
            state.log.push(Event::Remove { name: path.to_owned() });
        }
        Ok(())
    }

    fn sync_parent(&self, _path: &Path) -> Result<()> {
        let verdict = self.process.attempt(Operation::SyncParent, "sync the directory")?;
        if verdict != Verdict::Lie {
            self.medium.lock().log.push(Event::SyncParent);
        }
        Ok(())
    }

    fn check_sharing(&self, _path: &Path) -> Result<()> {
        let unsupported = self.unsupported.lock().unwrap_or_else(PoisonError::into_inner);
        unsupported.clone().map_or(Ok(()), |what| Err(StorageError::Unsupported { what }))
    }

    fn inode(&self, path: &Path) -> Result<(u64, u64)> {
        let number = self.medium.lock().names.get(path).copied();
        let number = number.ok_or_else(|| missing("look at the path"))?;
        Ok((DEVICE, number as u64))
    }

    fn remove_stale(&self, path: &Path) -> Result<()> {
        for name in self.medium.names() {
            if is_temporary_of(path, &name)
                && self.head(&name).is_ok_and(|head| is_unfinished(&head))
            {
                self.remove(&name)?;
            }
        }
        Ok(())
    }
}
