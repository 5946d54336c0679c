//! `weir audit read`: recordings as JSON, from files and keys alone.

use std::collections::BTreeMap;
use std::path::Path;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::Value;
use serde_json::json;

use crate::audit::archive::Shelf;
use crate::audit::archive::Shelved;
use crate::audit::keys::KeyBytes;
use crate::audit::keys::KeyRing;
use crate::audit::keys::Purpose;
use crate::audit::keys::WrappedKey;
use crate::audit::keys::WrappingKey;
use crate::audit::offline;
use crate::audit::offline::Files;
use crate::audit::recording::Chunks;
use crate::audit::recording::Entries;
use crate::audit::recording::Entry;
use crate::audit::recording::Seen;
use crate::audit::told::Teller;
use crate::cli::print;
use crate::model::SessionId;
use crate::model::clock::System;
use crate::store;
use crate::store::Store;

/// What opens recordings that lie in a folder.
pub(super) struct Opener {
    ring: KeyRing,
    beside: BTreeMap<SessionId, PathBuf>,
    store: Option<Store>,
    runtime: tokio::runtime::Runtime,
}

/// Prints the recordings below `dir` as JSON lines, or that of one session. `keys` are the region's
/// wrapping keys; without any, the one of the state folder.
pub(super) fn read(dir: &Path, only: Option<SessionId>, keys: &[PathBuf]) -> ExitCode {
    let found = offline::recordings(dir).map_err(|error| error.to_string());
    let both = found.and_then(|found| Ok((found, Opener::new(dir, keys)?)));
    let (found, opener) = match both {
        Ok(both) => both,
        Err(why) => {
            print::complain(&format!("{} cannot be read: {why}", dir.display()));
            return ExitCode::from(2);
        }
    };
    let mut damaged = false;
    let mut seen = false;
    for (session, files) in found.iter().filter(|(session, _)| only.is_none_or(|o| o == **session))
    {
        seen = true;
        if let Err(why) = opener.tell(*session, files) {
            damaged = true;
            print::complain(&format!("{session}: {why}"));
        }
    }
    if !seen {
        print::complain(&format!("there is no such recording below {}", dir.display()));
        return ExitCode::from(2);
    }
    if damaged { ExitCode::from(4) } else { ExitCode::SUCCESS }
}

impl Opener {
    /// What opens the recordings below `dir`: `keys`, or without any the folder's own wrapping key,
    /// and the data keys that lie beside recordings or in the state database there.
    pub(super) fn new(dir: &Path, keys: &[PathBuf]) -> Result<Self, String> {
        let own = [dir.join("wrapping.key")];
        let keys = if keys.is_empty() { own.as_slice() } else { keys };
        let read = |path: &PathBuf| KeyBytes::read(path, Purpose::Wrapping).map(WrappingKey::new);
        let said =
            |error: crate::audit::keys::KeyError| crate::model::fault::Chain(&error).to_string();
        let mut keys =
            keys.iter().map(read).collect::<Result<Vec<_>, _>>().map_err(said)?.into_iter();
        let first = keys.next().ok_or("no wrapping key was given")?;
        let ring = KeyRing::new(first, keys.collect()).map_err(said)?;
        let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
        let place = dir.join("state.db");
        let store = if place.exists() {
            let options =
                store::Options { gateway: String::new(), place: store::Place::Sqlite(place) };
            // Recordings in the spool have their keys beside them: they can be read without it.
            match runtime.block_on(Store::open(&options, Arc::new(System))) {
                Ok(store) => Some(store),
                Err(error) => {
                    print::complain(&crate::model::fault::Chain(&error).to_string());
                    None
                }
            }
        } else {
            None
        };
        let beside = offline::keys(dir).map_err(|error| error.to_string())?;
        Ok(Self { ring, beside, store, runtime })
    }

    fn tell(&self, session: SessionId, files: &Files) -> Result<(), String> {
        let mut teller = Teller::new(true);
        self.each(session, files, |entry| {
            if let Some(mut told) = teller.tell(entry) {
                if let Value::Object(told) = &mut told {
                    told.insert("session".to_owned(), json!(session));
                }
                print::line(&told.to_string());
            }
        })
    }

    /// Gives every entry of a recording, up to its end or to what is wrong with it.
    pub(super) fn each(
        &self,
        session: SessionId,
        files: &Files,
        mut each: impl FnMut(&Entry),
    ) -> Result<(), String> {
        let said = |error: std::io::Error| error.to_string();
        let chunks = Chunks::begin(files.open().map_err(said)?).map_err(said)?;
        let chunks = chunks.map_err(|damage| damage.to_string())?;
        let wrapped = self.wrapped(session)?;
        let region = chunks.header().region.clone();
        let key = self.ring.unwrap(&wrapped, &session, &region).map_err(|e| e.to_string())?;
        let entries = Entries::open(chunks, &key).map_err(said)?;
        let mut entries = entries.ok_or("its key is another recording's")?;
        loop {
            match entries.next().map_err(said)? {
                Seen::One(entry) => each(&entry),
                Seen::End => return Ok(()),
                Seen::Damaged(damage) => return Err(damage.to_string()),
            }
        }
    }

    fn wrapped(&self, session: SessionId) -> Result<WrappedKey, String> {
        if let Some(path) = self.beside.get(&session)
            && let Ok(bytes) = std::fs::read(path)
        {
            return serde_json::from_slice(&bytes).map_err(|error| error.to_string());
        }
        let store = self.store.as_ref().ok_or("there is no key of it here")?;
        let found = self.runtime.block_on(store.find(session));
        match found.map_err(|error| crate::model::fault::Chain(&error).to_string())? {
            Some(Shelved::Key(key)) => Ok(key),
            Some(Shelved::Destroyed { at, by, reason }) => {
                Err(format!("it was erased on {at} by {by}: {reason}"))
            }
            None => Err("there is no key of it here".to_owned()),
        }
    }
}
