//! What is in flight: messages that were sent and not yet answered, and what names mean meanwhile.
//!
//! Names lie under pipelining: while an answer is due, nobody knows whether the name that it
//! touches means the old thing or the new. So a name means what stood at the last answer, changed
//! by what its own segment (the messages up to a Sync) did to it: should that fail, the server
//! skips the rest of the segment too. A name that an unanswered *earlier* segment touches means
//! nothing yet, and whoever uses it waits.
//!
//! Values only: it sends nothing and decides nothing.

use std::collections::HashMap;
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::audit::entry::Ending;
use crate::model::verdict::Masks;
use crate::protocol::postgres::catalogue::Known;
use crate::protocol::postgres::command::Plan;
use crate::protocol::postgres::mask::Shape;
use crate::protocol::postgres::refuse::Denied;
use crate::protocol::postgres::refuse::Words;
use crate::session::Running;

/// Messages that may be in flight at once.
pub const IN_FLIGHT_MAX: usize = 4096;
/// Prepared statements that a session may have at once, and portals.
pub const NAMES_MAX: usize = 4096;

/// A command that was let go on, with what its answers are judged by.
#[derive(Debug)]
pub struct Granted {
    /// The command.
    pub running: Arc<Running>,
    /// What its principal may see, as it was when the command was decided.
    pub masks: Arc<Masks>,
    /// What was read in its text.
    pub plan: Arc<Plan>,
    /// What was known of the tables then.
    pub known: Arc<Known>,
}

/// A prepared statement; or the words with which it was denied.
pub type Prepared = Result<Arc<Plan>, Words>;

/// A portal: a command of the extended protocol.
#[derive(Debug)]
pub struct Portal {
    /// The command.
    pub granted: Granted,
    /// Its shape, once the gateway's own Describe is answered.
    pub shape: OnceLock<Shape>,
    /// Whether an Execute was sent for it.
    pub executed: AtomicBool,
}

impl Drop for Portal {
    /// Says how the command ended if nothing said it before.
    fn drop(&mut self) {
        let reason = if self.executed.load(Ordering::Relaxed) {
            "its portal was closed before the last row"
        } else {
            "it was bound and never executed"
        };
        // Where this cannot be recorded, the trail is lost and the session ends for it.
        drop(self.granted.running.end(Ending::Cut { reason: reason.to_owned() }));
    }
}

/// What one message does to a name; `name: None` is all names.
#[derive(Debug, Clone)]
pub struct Change<T> {
    /// The name.
    pub name: Option<Bytes>,
    /// What stands there if the message succeeds.
    pub value: Option<T>,
}

/// What a message in flight was.
#[derive(Debug)]
pub enum What {
    /// A Query.
    Query {
        /// The command; `None`: it was denied.
        granted: Option<Granted>,
        /// The denial.
        denied: Option<Denied>,
        /// Statements that were answered so far.
        done: usize,
        /// The shape of the rows that come now.
        shape: Option<Shape>,
        /// The last command tag, or the SQLSTATE of the error that ended it.
        status: Result<String, String>,
    },
    /// A Parse.
    Parse(Option<Denied>, Option<Arc<Running>>),
    /// A Bind, with the portal that it makes.
    Bind(Option<Denied>, Option<Arc<Portal>>),
    /// The gateway's own Describe of a portal, whose answer the client does not get.
    Shape(Arc<Portal>),
    /// A Describe.
    Describe(Option<Denied>),
    /// An Execute.
    Execute(Option<Denied>, Option<Arc<Portal>>),
    /// A Close.
    Close,
    /// A Sync; `own`: the gateway's, whose answer the client does not get.
    Sync {
        /// The gateway's own.
        own: bool,
    },
    /// A `FunctionCall`, always denied.
    Function(Denied),
}

impl What {
    /// A Query that was let go on.
    pub fn query(granted: Granted) -> Self {
        let status = Ok(String::new());
        Self::Query { granted: Some(granted), denied: None, done: 0, shape: None, status }
    }

    /// A Query in whose place a denial stands.
    pub fn denied_query(denied: Denied) -> Self {
        let status = Ok(String::new());
        Self::Query { granted: None, denied: Some(denied), done: 0, shape: None, status }
    }

    /// Whether the server answers it with `ReadyForQuery` whatever was skipped before.
    pub fn is_sync(&self) -> bool {
        matches!(self, Self::Sync { .. })
    }

    /// The denial that stands in its place.
    pub fn denied(&self) -> Option<&Denied> {
        match self {
            Self::Query { denied, .. }
            | Self::Parse(denied, _)
            | Self::Bind(denied, _)
            | Self::Describe(denied)
            | Self::Execute(denied, _) => denied.as_ref(),
            Self::Function(denied) => Some(denied),
            Self::Shape(_) | Self::Close | Self::Sync { .. } => None,
        }
    }

    /// The command whose answer it is.
    pub fn granted(&self) -> Option<&Granted> {
        match self {
            Self::Query { granted, .. } => granted.as_ref(),
            Self::Execute(_, portal) => portal.as_ref().map(|portal| &portal.granted),
            Self::Bind(_, portal) => portal.as_ref().map(|portal| &portal.granted),
            Self::Shape(portal) => Some(&portal.granted),
            Self::Parse(..)
            | Self::Describe(_)
            | Self::Close
            | Self::Sync { .. }
            | Self::Function(_) => None,
        }
    }

    /// The command that ends with it.
    pub fn running(&self) -> Option<&Arc<Running>> {
        match self {
            Self::Parse(_, running) => running.as_ref(),
            Self::Query { .. }
            | Self::Bind(..)
            | Self::Shape(_)
            | Self::Describe(_)
            | Self::Execute(..)
            | Self::Close
            | Self::Sync { .. }
            | Self::Function(_) => self.granted().map(|granted| &granted.running),
        }
    }
}

/// A message in flight.
#[derive(Debug)]
pub struct Awaited {
    segment: u64,
    /// What it was.
    pub what: What,
    /// What it does to the name of a prepared statement.
    pub statement: Option<Change<Prepared>>,
    /// What it does to the name of a portal.
    pub portal: Option<Change<Arc<Portal>>>,
}

/// What a name means.
#[derive(Debug)]
pub enum Resolved<T> {
    /// This.
    Is(T),
    /// Nothing.
    Nothing,
    /// It is not known before earlier messages are answered.
    Unanswered,
}

/// What a transaction's state was at the last `ReadyForQuery`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Outside a transaction block.
    Idle,
    /// In one.
    Block,
    /// In one that failed.
    Failed,
}

impl State {
    /// The state that `ReadyForQuery` calls `sign`.
    pub fn of(sign: u8) -> Self {
        match sign {
            b'T' => Self::Block,
            b'E' => Self::Failed,
            _ => Self::Idle,
        }
    }
}

/// What is in flight in one session.
#[derive(Debug)]
pub struct Flow {
    awaited: VecDeque<Awaited>,
    statements: HashMap<Bytes, Prepared>,
    portals: HashMap<Bytes, Arc<Portal>>,
    state: State,
    segment: u64,
    /// Since the last Sync of the client, a Bind or more was sent.
    bound: bool,
    /// Since an error, everything up to the client's next Sync is skipped.
    skipping: bool,
}

impl Default for Flow {
    /// Nothing in flight, outside a transaction.
    fn default() -> Self {
        Self {
            awaited: VecDeque::new(),
            statements: HashMap::new(),
            portals: HashMap::new(),
            state: State::Idle,
            segment: 0,
            bound: false,
            skipping: false,
        }
    }
}

impl Flow {
    /// Whether nothing is in flight.
    pub fn is_idle(&self) -> bool {
        self.awaited.is_empty()
    }

    /// Whether no more may be in flight.
    pub fn is_full(&self) -> bool {
        self.awaited.len() >= IN_FLIGHT_MAX
    }

    /// Whether the client's messages up to its next Sync are skipped, as the server does.
    pub fn is_skipping(&self) -> bool {
        self.skipping
    }

    /// The transaction's state at the last `ReadyForQuery`.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether a Bind came before in the client's segment.
    pub fn has_bound(&self) -> bool {
        self.bound
    }

    /// Whether the server is certain to skip the client's next message: one before it in its segment
    /// is denied. After a Query the server goes on whatever came of it.
    pub fn will_skip(&self) -> bool {
        let own = self.awaited.iter().rev().take_while(|awaited| awaited.segment == self.segment);
        own.map(|awaited| &awaited.what)
            .filter(|what| !matches!(what, What::Query { .. } | What::Function(_)))
            .any(|what| what.denied().is_some())
    }

    /// Whether the server keeps its answers until it is told to send them: the last message was
    /// neither a Sync nor a Query.
    pub fn needs_flush(&self) -> bool {
        let last = self.awaited.back().map(|awaited| &awaited.what);
        last.is_some_and(|what| {
            !matches!(what, What::Sync { .. } | What::Query { .. } | What::Function(_))
        })
    }

    /// Whether one more prepared statement or portal is too many.
    pub fn has_too_many_names(&self) -> bool {
        self.statements.len() >= NAMES_MAX || self.portals.len() >= NAMES_MAX
    }

    /// A message was sent.
    pub fn sent(&mut self, what: What) {
        self.sent_with(what, None, None);
    }

    /// A message was sent that touches names.
    pub fn sent_with(
        &mut self,
        what: What,
        statement: Option<Change<Prepared>>,
        portal: Option<Change<Arc<Portal>>>,
    ) {
        self.bound |= matches!(what, What::Bind(..) | What::Execute(..));
        self.awaited.push_back(Awaited { segment: self.segment, what, statement, portal });
    }

    /// The client's Sync: its segment ends.
    pub fn synced(&mut self) {
        self.sent(What::Sync { own: false });
        self.segment = self.segment.wrapping_add(1);
        (self.bound, self.skipping) = (false, false);
    }

    /// The message that is answered next.
    pub fn head(&mut self) -> Option<&mut What> {
        self.awaited.front_mut().map(|awaited| &mut awaited.what)
    }

    /// The head succeeded.
    pub fn succeeded(&mut self) -> Option<What> {
        let awaited = self.awaited.pop_front()?;
        if let What::Query { .. } = awaited.what {
            self.forget_unnamed();
        }
        if let Some(change) = awaited.statement {
            change_name(&mut self.statements, change);
        }
        if let Some(change) = awaited.portal {
            change_name(&mut self.portals, change);
        }
        Some(awaited.what)
    }

    /// The head failed.
    pub fn failed(&mut self) -> Option<What> {
        let awaited = self.awaited.pop_front()?;
        match &awaited.what {
            What::Query { .. } => self.forget_unnamed(),
            // A Parse of the unnamed statement drops the old one even if it fails.
            What::Parse(..) => {
                self.statements.remove(&Bytes::new());
            }
            What::Bind(..)
            | What::Shape(_)
            | What::Describe(_)
            | What::Execute(..)
            | What::Close
            | What::Sync { .. }
            | What::Function(_) => {}
        }
        Some(awaited.what)
    }

    /// After an error in the extended protocol: takes out what the server skips, up to a Sync.
    pub fn skipped(&mut self) -> Vec<What> {
        let end = self.awaited.iter().position(|awaited| awaited.what.is_sync());
        let own = end
            .and_then(|at| self.awaited.get(at))
            .is_some_and(|awaited| matches!(awaited.what, What::Sync { own: true }));
        // Without a Sync of the client's, what it sends up to that is skipped too.
        self.skipping |= end.is_none() || own;
        let skipped = self.awaited.drain(..end.unwrap_or(self.awaited.len()));
        skipped.map(|awaited| awaited.what).collect()
    }

    /// A `ReadyForQuery` said `state`: outside a block, portals are gone.
    pub fn ready(&mut self, state: State) {
        self.state = state;
        if state == State::Idle {
            self.portals.clear();
        }
    }

    /// What the name of a prepared statement means to the client's next message.
    pub fn statement(&self, name: &[u8]) -> Resolved<Prepared> {
        for awaited in self.awaited.iter().rev() {
            let unnamed = name.is_empty() && matches!(awaited.what, What::Query { .. });
            let change = awaited.statement.as_ref().filter(|change| change.touches(name));
            if !unnamed && change.is_none() {
                continue;
            }
            // After a Query that fails, the server goes on with the segment: whether its PREPARE or
            // DEALLOCATE has changed the name is not known before it is answered.
            let uncertain = change.is_some() && matches!(awaited.what, What::Query { .. });
            if uncertain || awaited.segment != self.segment {
                return Resolved::Unanswered;
            }
            return Resolved::of(change.and_then(|change| change.value.clone()));
        }
        Resolved::of(self.statements.get(name).cloned())
    }

    /// What the name of a portal means to the client's next message.
    pub fn portal(&self, name: &[u8]) -> Resolved<Arc<Portal>> {
        for awaited in self.awaited.iter().rev() {
            let unnamed = name.is_empty() && matches!(awaited.what, What::Query { .. });
            let change = awaited.portal.as_ref().filter(|change| change.touches(name));
            if !unnamed && change.is_none() {
                continue;
            }
            if awaited.segment != self.segment {
                return Resolved::Unanswered;
            }
            return Resolved::of(change.and_then(|change| change.value.clone()));
        }
        // A portal of an earlier segment is gone if that segment ends outside a block, which is not
        // known before it is answered.
        if self.awaited.iter().any(|awaited| awaited.segment != self.segment) {
            return Resolved::Unanswered;
        }
        Resolved::of(self.portals.get(name).cloned())
    }

    fn forget_unnamed(&mut self) {
        self.statements.remove(&Bytes::new());
        self.portals.remove(&Bytes::new());
    }
}

impl<T> Resolved<T> {
    fn of(value: Option<T>) -> Self {
        value.map_or(Self::Nothing, Self::Is)
    }
}

impl<T> Change<T> {
    /// `name` will mean `value`; the name is copied, so that it keeps no buffer alive.
    pub fn set(name: &[u8], value: T) -> Self {
        Self { name: Some(Bytes::copy_from_slice(name)), value: Some(value) }
    }

    /// `name` will mean nothing.
    pub fn gone(name: &[u8]) -> Self {
        Self { name: Some(Bytes::copy_from_slice(name)), value: None }
    }

    fn touches(&self, name: &[u8]) -> bool {
        self.name.as_ref().is_none_or(|touched| touched == name)
    }
}

fn change_name<T>(names: &mut HashMap<Bytes, T>, change: Change<T>) {
    match (change.name, change.value) {
        (Some(name), Some(value)) => {
            names.insert(name, value);
        }
        (Some(name), None) => {
            names.remove(&name);
        }
        (None, _) => names.clear(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::postgres::sql::Reading;

    fn plan(text: &str) -> Arc<Plan> {
        let reading = Arc::new(Reading { statements: Vec::new() });
        Arc::new(Plan { text: text.into(), reading, stored: None })
    }

    fn parse(flow: &mut Flow, name: &'static str, text: &str) {
        let change = Change::set(name.as_bytes(), Ok(plan(text)));
        flow.sent_with(What::Parse(None, None), Some(change), None);
    }

    fn meaning(flow: &Flow, name: &str) -> String {
        match flow.statement(name.as_bytes()) {
            Resolved::Is(Ok(plan)) => plan.text.to_string(),
            Resolved::Is(Err(words)) => words.message,
            Resolved::Nothing => "nothing".to_owned(),
            Resolved::Unanswered => "unanswered".to_owned(),
        }
    }

    fn answer_all(flow: &mut Flow) {
        while flow.head().is_some() {
            flow.succeeded();
        }
        flow.ready(State::Idle);
    }

    #[test]
    fn a_name_that_an_unanswered_segment_touches_means_nothing_yet() {
        // GUARD.md: `s` = A; then `Execute nosuch, Parse s=B, Sync, Bind s`: the server skips the
        // Parse and runs A, while a map that was updated on sight would have decided B.
        let mut flow = Flow::default();
        parse(&mut flow, "s", "A");
        flow.synced();
        answer_all(&mut flow);
        flow.sent(What::Execute(None, None));
        parse(&mut flow, "s", "B");
        assert_eq!(meaning(&flow, "s"), "B", "its own segment");
        flow.synced();
        assert_eq!(meaning(&flow, "s"), "unanswered");
        flow.failed();
        assert_eq!(flow.skipped().len(), 1);
        assert_eq!(meaning(&flow, "s"), "A", "the Parse was skipped");
        assert!(!flow.is_skipping(), "the client's Sync is on its way");
    }

    #[test]
    fn what_a_query_does_to_a_name_is_not_known_before_it_is_answered() {
        // `s` = A; then `Query "PREPARE s AS B", Bind s`: the PREPARE fails, since `s` exists, and
        // the server goes on to run A.
        let mut flow = Flow::default();
        parse(&mut flow, "s", "A");
        flow.synced();
        answer_all(&mut flow);
        let query = What::Query {
            granted: None,
            denied: None,
            done: 0,
            shape: None,
            status: Ok(String::new()),
        };
        flow.sent_with(query, Some(Change::set(b"s", Ok(plan("B")))), None);
        assert_eq!(meaning(&flow, "s"), "unanswered");
        flow.failed();
        assert_eq!(meaning(&flow, "s"), "A");
    }

    #[test]
    fn the_unnamed_statement_is_gone_after_any_query_and_any_parse() {
        let mut flow = Flow::default();
        parse(&mut flow, "", "A");
        answer_all(&mut flow);
        assert_eq!(meaning(&flow, ""), "A");
        parse(&mut flow, "", "B");
        flow.failed();
        assert_eq!(meaning(&flow, ""), "nothing", "a Parse that fails drops the old one");
        parse(&mut flow, "", "C");
        answer_all(&mut flow);
        let query = What::Query {
            granted: None,
            denied: None,
            done: 0,
            shape: None,
            status: Ok(String::new()),
        };
        flow.sent(query);
        assert_eq!(meaning(&flow, ""), "nothing");
        flow.failed();
        assert_eq!(meaning(&flow, ""), "nothing");
    }

    #[test]
    fn after_an_error_everything_up_to_sync_is_skipped() {
        let mut flow = Flow::default();
        flow.sent(What::Bind(None, None));
        flow.sent(What::Execute(None, None));
        flow.failed();
        assert_eq!(flow.skipped().len(), 1);
        assert!(flow.is_skipping());
        flow.synced();
        assert!(!flow.is_skipping());
        assert!(matches!(flow.head(), Some(What::Sync { own: false })));
    }

    #[test]
    fn the_gateways_own_sync_does_not_end_the_clients_skipping() {
        let mut flow = Flow::default();
        parse(&mut flow, "s", "bad");
        flow.sent(What::Sync { own: true });
        flow.failed();
        assert!(flow.skipped().is_empty());
        assert!(flow.is_skipping(), "the client has not sent its Sync");
    }

    #[test]
    fn what_comes_after_a_denial_in_its_segment_is_skipped() {
        let denied = || Denied::new(1, Words::new("42501", "no"));
        let mut flow = Flow::default();
        flow.sent(What::denied_query(denied()));
        assert!(!flow.will_skip(), "the server goes on after a Query");
        flow.sent(What::Parse(Some(denied()), None));
        flow.sent(What::Close);
        assert!(flow.will_skip());
        flow.synced();
        assert!(!flow.will_skip());
    }

    #[test]
    fn deallocate_all_takes_every_name() {
        let mut flow = Flow::default();
        parse(&mut flow, "s", "A");
        answer_all(&mut flow);
        let all = Change { name: None, value: None };
        flow.sent_with(What::Execute(None, None), Some(all), None);
        assert_eq!(meaning(&flow, "s"), "nothing");
        flow.synced();
        assert_eq!(meaning(&flow, "s"), "unanswered");
        answer_all(&mut flow);
        assert_eq!(meaning(&flow, "s"), "nothing");
    }
}
