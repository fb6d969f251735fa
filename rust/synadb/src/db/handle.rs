//! A user's handle: an engine, what belongs to the handle alone, and whether it was closed.

use std::io::ErrorKind;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use synadb_storage::StorageError;
use synadb_storage::fork;

use super::Engine;
use super::view::ViewFactory;
use crate::config::{Access, AutoCompact, OpenOptions, Settings, Terms};
use crate::error::{Error, Result};

/// An engine for each process that the handle has lived in: a forked child needs one of its own.
struct Link {
    engine: Arc<Engine>,
    /// What it was counted as.
    access: Access,
    /// Of the process that made the engine.
    epoch: u64,
    /// Of the file; zeros where a reader came before it had one.
    database_id: [u8; 16],
    /// Number of its wish for upkeep.
    wish: Option<u64>,
    next: OnceLock<Box<Link>>,
}

impl Link {
    /// A link of this process that the engine already counts.
    fn new(engine: Arc<Engine>, access: Access, wish: Option<AutoCompact>) -> Self {
        let wish = wish.filter(|_| engine.writes).map(|wish| engine.upkeep.want(wish));
        let database_id = engine.applied().log.identity().database_id;
        Self { engine, access, epoch: fork::epoch(), database_id, wish, next: OnceLock::new() }
    }

    fn let_go(&self) -> Result<()> {
        if let Some(wish) = self.wish {
            self.engine.upkeep.forget(wish);
        }
        self.engine.let_go(self.access)
    }
}

/// A user's handle.
pub(crate) struct Handle {
    first: Link,
    options: OpenOptions,
    pub terms: Terms,
    /// Whether the user asked for no more than reading.
    read_only: bool,
    closed: AtomicBool,
}

impl Handle {
    /// A handle that the engine already counts.
    pub(super) fn new(engine: Arc<Engine>, options: &OpenOptions) -> Self {
        let first = Link::new(engine, options.access, options.auto_compact);
        let read_only = options.access == Access::ReadOnly;
        let (terms, closed) = (options.terms(), AtomicBool::new(false));
        Self { first, options: options.clone(), terms, read_only, closed }
    }

    /// Opens a file of a directory that is not the file system, of which the registry does not know.
    #[cfg(test)]
    pub fn open_in(
        path: &Path,
        options: &OpenOptions,
        directory: Arc<dyn synadb_storage::directory::Directory>,
        factory: &Arc<dyn ViewFactory>,
    ) -> Result<Self> {
        use super::open::{Waiting, patiently};
        let engine = patiently(path, Waiting::NONE, || {
            let place = super::registry::Place::default();
            Engine::open_in(path, place, options, Arc::clone(&directory), factory)
        })?;
        Ok(Self::new(engine, options))
    }

    /// A second handle like this one, which is closed on its own.
    pub fn another(&self) -> Result<Self> {
        self.another_with(&self.options)
    }

    /// A second handle, for which something else was said.
    pub fn another_with(&self, options: &OpenOptions) -> Result<Self> {
        let engine = Arc::clone(self.open()?);
        {
            let _engines = engine.place.lock();
            engine.count(options.access);
        }
        Ok(Self::new(engine, options))
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// What was said when the handle was opened.
    pub fn settings(&self) -> Settings {
        self.options.settings()
    }

    /// The file, resolved when it was opened.
    pub fn path(&self) -> &Path {
        self.first.engine.path()
    }

    /// A failure of this file.
    pub fn failure(&self, error: StorageError) -> Error {
        self.first.engine.failure(error)
    }

    /// The engine, unless the handle was closed.
    #[inline]
    pub fn open(&self) -> Result<&Arc<Engine>> {
        if self.is_closed() {
            return Err(Error::Closed);
        }
        let epoch = fork::epoch();
        if self.first.epoch == epoch {
            return Ok(&self.first.engine);
        }
        self.of_this_process(epoch).map(|link| &link.engine)
    }

    /// The engine, unless the handle was closed or may only read.
    #[inline]
    pub fn writable(&self) -> Result<&Arc<Engine>> {
        let engine = self.open()?;
        if self.read_only {
            return Err(Error::ReadOnly { path: engine.path.clone() });
        }
        if !engine.writes {
            return self.after_the_parent().map(|link| &link.engine);
        }
        Ok(engine)
    }

    /// The engines that the handle had, in the order in which they were opened.
    fn links(&self) -> impl Iterator<Item = &Link> {
        std::iter::successors(Some(&self.first), |link| link.next.get().map(|next| &**next))
    }

    /// In a forked child: opens the file anew, for the locks and threads are the parent's.
    ///
    /// The child of a process that has the file for itself may only read.
    #[cold]
    fn of_this_process(&self, epoch: u64) -> Result<&Link> {
        if let Some(link) = self.links().filter(|link| link.epoch == epoch).last() {
            return Ok(link);
        }
        let at_once = self.options.clone().lock_timeout(Duration::ZERO);
        let opened = match self.open_anew(at_once) {
            Err(Error::Locked { .. }) => {
                self.open_anew(self.options.clone().access(Access::ReadOnly))
            }
            other => other,
        };
        self.go_on_with(opened?)
    }

    /// In a child that may only read: writes if its parent has closed the file or is gone.
    #[cold]
    fn after_the_parent(&self) -> Result<&Link> {
        self.go_on_with(self.open_anew(self.options.clone())?)
    }

    /// Opens the file of the first process by its path: that file and no other, nor a new one.
    fn open_anew(&self, options: OpenOptions) -> Result<Link> {
        let path = self.path();
        let gone = || Error::MissingAfterFork { path: path.to_owned() };
        let options = options.create(false);
        let opened = Engine::join_or_open(path, &options, || self.factory());
        let opened = opened.map_err(|error| match error {
            Error::MissingDatabase { .. } | Error::MissingDirectory { .. } => gone(),
            Error::Io { source, .. } if source.kind() == ErrorKind::NotFound => gone(),
            other => other,
        })?;
        let link = Link::new(opened, options.access, options.auto_compact);
        let expected = self.first.database_id;
        if expected != [0; 16] && link.database_id != expected {
            link.let_go()?;
            return Err(gone());
        }
        Ok(link)
    }

    fn factory(&self) -> Arc<dyn ViewFactory> {
        Arc::clone(&self.first.engine.factory)
    }

    fn go_on_with(&self, link: Link) -> Result<&Link> {
        let mut new = Some(Box::new(link));
        let mut last = &self.first;
        loop {
            let next = last.next.get_or_init(|| new.take().expect("given away once"));
            let Some(spare) = &new else { return Ok(next) };
            if Arc::ptr_eq(&next.engine, &spare.engine) {
                // Another thread was faster.
                spare.let_go()?;
                return Ok(next);
            }
            last = next;
        }
    }

    /// Closes the handle; the last one of a file closes the file. Repeatable.
    pub fn close(&self) -> Result<()> {
        if self.closed.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        // Those of other processes are theirs to close.
        let epoch = fork::epoch();
        let mine = self.links().filter(|link| link.epoch == epoch);
        mine.map(Link::let_go).fold(Ok(()), Result::and)
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.close().is_err() {
            // Nobody is left to tell; the file is as good as after a kill.
        }
    }
}

impl Engine {
    /// Lets go of one handle; with the last one the file is closed.
    fn let_go(&self, access: Access) -> Result<()> {
        let mut writer = self.place.lock();
        if !self.count_down(access)? {
            return Ok(());
        }
        if std::ptr::eq(writer.as_ptr(), self) {
            *writer = Weak::new();
        }
        self.background.stop();
        self.sync_timer.stop();
        self.maintainer.stop(self.applied().log.region());
        // Nobody else in this process can open the file before its locks are gone.
        let result = self.shut_down();
        drop(writer);
        result
    }
}
