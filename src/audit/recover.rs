//! Taking stock after a crash: what trails were left open tell, as far as they are readable.
//!
//! What the ledger says decides. A session that it admitted has a recording, damaged or not, and
//! keeps it; only what was begun for a session that it never admitted is removed.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::io::BufReader;
use std::path::Path;

use crate::audit::Audit;
use crate::audit::Unrecorded;
use crate::audit::chain::Head;
use crate::audit::entry::LedgerEvent;
use crate::audit::entry::TrailEvent;
use crate::audit::entry::Volume;
use crate::audit::keys::DataKey;
use crate::audit::ledger::Known;
use crate::audit::recording::Chunks;
use crate::audit::recording::Entries;
use crate::audit::recording::Seen;
use crate::audit::recording::What;
use crate::audit::spool;
use crate::audit::spooled::gone;
use crate::model::SessionId;
use crate::model::digest::Digest;

impl Audit {
    /// Says in the ledger that it ended in half an entry, and closes the trails that were `left` open.
    /// `sessions`: what the ledger says of these, and of others that it admitted and did not close.
    pub(super) fn recover(
        &self,
        torn: Option<LedgerEvent>,
        left: &BTreeSet<SessionId>,
        sessions: &BTreeMap<SessionId, Known>,
    ) -> io::Result<()> {
        if let Some(event) = torn {
            self.record(&event).map_err(io::Error::other)?;
        }
        for session in left {
            self.recover_trail(*session, sessions.get(session).copied())?;
        }
        let closed = self.closed_trails()?;
        for (session, known) in sessions {
            if !known.closed && !left.contains(session) && !closed.contains(session) {
                tracing::error!(fault = "gateway", %session, "the ledger admitted this session, and its recording is gone");
            }
        }
        Ok(())
    }

    fn recover_trail(&self, session: SessionId, known: Option<Known>) -> io::Result<()> {
        if known.is_some_and(|known| known.closed) {
            // The crash came between the entry that closes it and the move of its file.
            return self.put_away(session);
        }
        let path = spool::recording_of(&self.folders().open, session);
        let mut found = LeftOpen::read(&path, self.spooled_key(session).ok().as_ref())?;
        match known {
            None if found.head.entries == 0 => {
                // The crash came before the admission was recorded: there was no session.
                tracing::info!(%session, "a recording that was begun for nobody is removed");
                gone(fs::remove_file(spool::key_of(&self.folders().open, session)))?;
                return fs::remove_file(&path);
            }
            Some(_) if found.head.entries == 0 && found.damage.is_none() => {
                found.damage = Some("it has no entry, though its session was admitted".to_owned());
            }
            None | Some(_) => {}
        }
        if let Some(damage) = &found.damage {
            tracing::warn!(fault = "gateway", %session, "a recording is damaged: {damage}");
        }
        self.say(session, found, known.unwrap_or_default()).map_err(io::Error::other)?;
        self.put_away(session)
    }

    fn say(&self, session: SessionId, found: LeftOpen, known: Known) -> Result<(), Unrecorded> {
        let LeftOpen { head, damage, transfers, volume } = found;
        if transfers || known.transfers {
            let volume = volume.at_least(known.volume);
            self.record(&LedgerEvent::TransferUnclean { session, volume })?;
        }
        self.record(&LedgerEvent::TrailRecovered { session, head, damage }).map(|_| ())
    }
}

/// What a trail that was left open tells about its session.
#[derive(Debug)]
struct LeftOpen {
    head: Head,
    damage: Option<String>,
    transfers: bool,
    volume: Volume,
}

impl LeftOpen {
    fn read(path: &Path, key: Option<&DataKey>) -> io::Result<Self> {
        let mut left = Self {
            head: Head { entries: 0, digest: Digest::ZERO },
            damage: None,
            transfers: false,
            volume: Volume::default(),
        };
        let reader = BufReader::new(fs::File::open(path)?);
        let mut chunks = match Chunks::begin(reader)? {
            Ok(chunks) => chunks,
            Err(damage) => {
                left.damage = Some(damage.to_string());
                return Ok(left);
            }
        };
        left.head = chunks.head();
        while let Seen::One(_) = chunks.next()? {
            left.head = chunks.head();
        }
        let mut entries = match key {
            Some(key) => {
                let again = BufReader::new(fs::File::open(path)?);
                let begun = Chunks::begin(again)?.map_err(io::Error::other)?;
                Entries::open(begun, key)?
            }
            None => None,
        };
        let Some(entries) = &mut entries else {
            left.damage = Some("its key cannot be opened, so what it says cannot be read".into());
            return Ok(left);
        };
        loop {
            match entries.next()? {
                Seen::One(entry) => left.see(&entry.what),
                Seen::End => return Ok(left),
                Seen::Damaged(damage) => {
                    left.damage = Some(damage.to_string());
                    return Ok(left);
                }
            }
        }
    }

    fn see(&mut self, what: &What) {
        let What::Event(event) = what else { return };
        if let TrailEvent::Opened(opened) = &**event {
            self.transfers = opened.transfer.outcome != "none";
        }
        if let TrailEvent::Ended { volume, .. } = &**event {
            self.volume.add(*volume);
        }
    }
}
