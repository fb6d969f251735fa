//! One writing process of `benchmarks/python/sharing.py`.
//!
//! `sharing_worker PATH SECONDS BEGIN THREADS PAUSE_US DURABILITY ACCESS`: from the moment BEGIN
//! (seconds since 1970) on each thread commits puts of 64 bytes, with a pause between them, and the
//! last line says how many there were and how long they took. With `fdatasync` as DURABILITY the
//! file is a plain one, and a commit is a store of 64 bytes and a sync.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use synadb::{Access, Durability, OpenOptions, SynaDB, ValueRef};

struct Job {
    path: String,
    seconds: f64,
    begin: f64,
    threads: usize,
    pause: Duration,
    durability: String,
    access: Access,
}

impl Job {
    fn from_arguments() -> Option<Self> {
        let mut arguments = std::env::args().skip(1);
        let mut next = || arguments.next();
        Some(Self {
            path: next()?,
            seconds: next()?.parse().ok()?,
            begin: next()?.parse().ok()?,
            threads: next()?.parse().ok()?,
            pause: Duration::from_micros(next()?.parse().ok()?),
            durability: next()?,
            access: if next()? == "exclusive" { Access::Exclusive } else { Access::Shared },
        })
    }

    /// Number of commits, and microseconds that some of them took.
    fn run(&self, mut commit: impl FnMut(usize)) -> (usize, Vec<f64>) {
        let begin = UNIX_EPOCH + Duration::from_secs_f64(self.begin);
        if let Ok(wait) = begin.duration_since(SystemTime::now()) {
            std::thread::sleep(wait);
        }
        let start = Instant::now();
        let (mut count, mut took) = (0, Vec::new());
        // Reading the clock costs a tenth of a commit: where they follow each other, one in 16.
        let timed = if self.pause.is_zero() && self.durability == "none" { 16 } else { 1 };
        while start.elapsed().as_secs_f64() < self.seconds {
            let before = Instant::now();
            commit(count);
            took.push(before.elapsed().as_secs_f64() * 1e6);
            (1..timed).for_each(|more| commit(count + more));
            count += timed;
            if !self.pause.is_zero() {
                std::thread::sleep(self.pause);
            }
        }
        (count, took)
    }

    fn open(&self) -> synadb::Result<SynaDB> {
        let durability =
            if self.durability == "sync" { Durability::Sync } else { Durability::Process };
        OpenOptions::new()
            .access(self.access)
            .durability(durability)
            .lock_timeout(Duration::from_secs(30))
            .open(&self.path)
    }

    fn commits(&self) -> synadb::Result<(usize, Vec<f64>)> {
        let db = self.open()?;
        let text = "v".repeat(64);
        let thread = |number: usize| {
            let process = std::process::id();
            let keys: Vec<_> = (0..1000).map(|key| format!("{process}/{number}/{key}")).collect();
            let value = ValueRef::Text(text.as_str().into());
            self.run(|count| db.put(&keys[count % 1000], &value).map(|_| ()).expect("puts"))
        };
        let (mut count, mut took) = (0, Vec::new());
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..self.threads).map(|number| scope.spawn(move || thread(number))).collect();
            for thread in threads {
                let (more, times) = thread.join().expect("joins");
                count += more;
                took.extend(times);
            }
        });
        db.close()?;
        Ok((count, took))
    }

    fn plain_syncs(&self) -> io::Result<(usize, Vec<f64>)> {
        let file = File::options().write(true).create(true).truncate(true).open(&self.path)?;
        file.write_all_at(&vec![0; 8 << 20], 0)?;
        file.sync_all()?;
        Ok(self.run(|count| {
            let stored = file.write_all_at(&[7; 64], (count % (8 << 14) * 64) as u64);
            stored.and_then(|()| file.sync_data()).expect("stores");
        }))
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let job = Job::from_arguments().ok_or("seven arguments are needed")?;
    let (count, mut took) =
        if job.durability == "fdatasync" { job.plain_syncs()? } else { job.commits()? };
    took.sort_by(f64::total_cmp);
    let at = |share: f64| took.get((took.len() as f64 * share) as usize).copied().unwrap_or(0.0);
    let rate = count as f64 / job.seconds;
    println!(
        "{{\"commits\": {}, \"rate\": {rate:.0}, \"p50_us\": {:.2}, \"p99_us\": {:.2}, \"max_us\": {:.0}}}",
        count,
        at(0.50),
        at(0.99),
        took.last().copied().unwrap_or(0.0)
    );
    Ok(())
}
