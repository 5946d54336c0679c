//! The language of searches: read, bounded, and rendered for each database.
//!
//! ```text
//! any    = all *( "OR" all )
//! all    = item *( ["AND"] item )          at least one of them without NOT
//! item   = ["NOT"] ( word ["*"] | '"' phrase '"' ["*"] | "(" any ")" )
//! ```
//!
//! What is handed to a database is made of words that we have read, each quoted: no sign that
//! somebody typed means anything to it.

use std::fmt;
use std::fmt::Write;
use std::str::FromStr;

use crate::store::words;
use crate::store::words::Context;

/// Longest query, in bytes.
pub const QUERY_BYTES_MAX: usize = 1024;
/// Most words of a query, those of its phrases included.
pub const QUERY_WORDS_MAX: usize = 64;
/// How deep parentheses may nest.
pub const QUERY_DEPTH_MAX: usize = 16;

/// What to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query(Node);

/// A text that is no query. `Display` is a sentence that names the column.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {problem}")]
pub struct BadQuery {
    /// Where, in characters from 1.
    pub column: usize,
    /// What is wrong there, and what would be right.
    pub problem: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Node {
    Phrase(Phrase),
    /// All of the first (never none), and none of the second.
    All(Vec<Self>, Vec<Self>),
    Any(Vec<Self>),
}

/// Words that follow each other; of the last perhaps only the beginning.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Phrase {
    /// As it was typed: SQLite cuts it into words itself, as it did with the commands.
    text: String,
    /// Cut by us. Never empty.
    words: Vec<String>,
    prefix: bool,
}

/// Where to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scope {
    /// In all that is known of commands.
    Everything,
    /// In what they do and touch, and not in their texts, which may carry people's data.
    Names,
}

impl Query {
    /// For the `MATCH` of SQLite's FTS5, on a table with the columns `verb`, `objects`, `text`.
    pub(super) fn fts5(&self, scope: Scope) -> String {
        let query = render(&self.0, &|phrase| {
            let text = phrase.text.replace('"', "\"\"");
            format!("\"{text}\"{}", if phrase.prefix { " *" } else { "" })
        });
        match scope {
            Scope::Everything => query.fts5(),
            Scope::Names => format!("{{verb objects}} : ({})", query.fts5()),
        }
    }

    /// For PostgreSQL's type `tsquery`, on a `tsvector` whose names have the weight A.
    pub(super) fn tsquery(&self, scope: Scope) -> String {
        let weight = match scope {
            Scope::Everything => "",
            Scope::Names => "A",
        };
        let query = render(&self.0, &|phrase| {
            let last = phrase.words.len().saturating_sub(1);
            let word = |(at, word): (usize, &String)| {
                let star = if phrase.prefix && at == last { "*" } else { "" };
                let colon = if star.is_empty() && weight.is_empty() { "" } else { ":" };
                // A word is letters and digits, so there is nothing in it to be escaped.
                format!("'{word}'{colon}{star}{weight}")
            };
            let words = phrase.words.iter().enumerate().map(word).collect::<Vec<_>>();
            format!("({})", words.join(" <-> "))
        });
        query.tsquery()
    }

    /// The part of `text` around what this looks for.
    pub fn context(&self, text: &str) -> Context {
        let mut phrases = Vec::new();
        wanted(&self.0, &mut phrases);
        words::context(text, &phrases)
    }
}

/// A query whose phrases are rendered.
enum Rendered {
    Phrase(String),
    All(Vec<Self>, Vec<Self>),
    Any(Vec<Self>),
}

fn render(node: &Node, phrase: &impl Fn(&Phrase) -> String) -> Rendered {
    let each = |nodes: &[Node]| nodes.iter().map(|node| render(node, phrase)).collect();
    match node {
        Node::Phrase(of) => Rendered::Phrase(phrase(of)),
        Node::All(of, but) => Rendered::All(each(of), each(but)),
        Node::Any(of) => Rendered::Any(each(of)),
    }
}

impl Rendered {
    fn fts5(&self) -> String {
        match self {
            Self::Phrase(text) => text.clone(),
            Self::All(of, but) if but.is_empty() => joined(of, " AND ", Self::fts5),
            Self::All(of, but) => format!(
                "({} NOT {})",
                joined(of, " AND ", Self::fts5),
                joined(but, " OR ", Self::fts5)
            ),
            Self::Any(of) => joined(of, " OR ", Self::fts5),
        }
    }

    fn tsquery(&self) -> String {
        match self {
            Self::Phrase(text) => text.clone(),
            Self::All(of, but) if but.is_empty() => joined(of, " & ", Self::tsquery),
            Self::All(of, but) => format!(
                "({} & !{})",
                joined(of, " & ", Self::tsquery),
                joined(but, " | ", Self::tsquery)
            ),
            Self::Any(of) => joined(of, " | ", Self::tsquery),
        }
    }
}

fn joined<T>(all: &[T], by: &str, one: impl Fn(&T) -> String) -> String {
    format!("({})", all.iter().map(one).collect::<Vec<_>>().join(by))
}

fn wanted<'a>(node: &'a Node, into: &mut Vec<(&'a [String], bool)>) {
    match node {
        Node::Phrase(phrase) => into.push((&phrase.words, phrase.prefix)),
        Node::All(of, _) | Node::Any(of) => of.iter().for_each(|node| wanted(node, into)),
    }
}

// === Reading ===

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Open,
    Close,
    And,
    Or,
    Not,
    Phrase(Phrase),
}

struct Reader {
    tokens: Vec<(usize, Token)>,
    at: usize,
    /// The column behind the last sign.
    end: usize,
}

fn bad(column: usize, problem: impl Into<String>) -> BadQuery {
    BadQuery { column, problem: problem.into() }
}

impl FromStr for Query {
    type Err = BadQuery;

    fn from_str(text: &str) -> Result<Self, BadQuery> {
        if text.len() > QUERY_BYTES_MAX {
            let column = text.char_indices().take_while(|(at, _)| *at < QUERY_BYTES_MAX).count();
            return Err(bad(column, format!("a search has at most {QUERY_BYTES_MAX} bytes")));
        }
        let end = text.chars().count().saturating_add(1);
        let mut reader = Reader { tokens: tokens(text)?, at: 0, end };
        let all = reader.any(0)?;
        match reader.next() {
            None => Ok(Self(all)),
            Some((column, _)) => Err(bad(column, "this `)` closes nothing")),
        }
    }
}

impl Reader {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.at).map(|(_, token)| token)
    }

    fn column(&self) -> usize {
        self.tokens.get(self.at).map_or(self.end, |(column, _)| *column)
    }

    fn next(&mut self) -> Option<(usize, Token)> {
        let token = self.tokens.get(self.at).cloned();
        self.at = self.at.saturating_add(1);
        token
    }

    fn any(&mut self, depth: usize) -> Result<Node, BadQuery> {
        let mut of = vec![self.all(depth)?];
        while self.peek() == Some(&Token::Or) {
            self.next();
            of.push(self.all(depth)?);
        }
        Ok(only(of, Node::Any))
    }

    fn all(&mut self, depth: usize) -> Result<Node, BadQuery> {
        let (mut of, mut but) = (Vec::new(), Vec::new());
        let first = self.column();
        loop {
            let negative = self.peek() == Some(&Token::Not);
            if negative {
                self.next();
            }
            let item = self.item(depth)?;
            if negative {
                but.push(item);
            } else {
                of.push(item);
            }
            match self.peek() {
                Some(Token::And) => {
                    self.next();
                }
                Some(Token::Or | Token::Close) | None => break,
                Some(Token::Open | Token::Not | Token::Phrase(_)) => {}
            }
        }
        if of.is_empty() {
            let problem = "`NOT` leaves out of something: say beside it what to find";
            return Err(bad(first, problem));
        }
        if but.is_empty() {
            return Ok(only(of, |of| Node::All(of, Vec::new())));
        }
        Ok(Node::All(of, but))
    }

    fn item(&mut self, depth: usize) -> Result<Node, BadQuery> {
        let wanted = |after: &str| format!("here a word, a \"phrase\" or `(` must stand{after}");
        let literally = |word: &str| wanted(&format!("; the word itself is written \"{word}\""));
        let end = self.end;
        match self.next() {
            None => Err(bad(end, wanted(""))),
            Some((_, Token::Phrase(phrase))) => Ok(Node::Phrase(phrase)),
            Some((column, Token::Open)) => {
                if depth >= QUERY_DEPTH_MAX {
                    let problem = format!("parentheses nest deeper than {QUERY_DEPTH_MAX}");
                    return Err(bad(column, problem));
                }
                let inner = self.any(depth.saturating_add(1))?;
                match self.next() {
                    Some((_, Token::Close)) => Ok(inner),
                    Some(_) | None => Err(bad(column, "this `(` is never closed")),
                }
            }
            Some((column, Token::Close)) => Err(bad(column, wanted(", no `)`"))),
            Some((column, Token::And)) => Err(bad(column, literally("AND"))),
            Some((column, Token::Or)) => Err(bad(column, literally("OR"))),
            Some((column, Token::Not)) => Err(bad(column, literally("NOT"))),
        }
    }
}

fn only(mut nodes: Vec<Node>, several: impl Fn(Vec<Node>) -> Node) -> Node {
    if nodes.len() > 1 { several(nodes) } else { nodes.pop().unwrap_or(Node::Any(Vec::new())) }
}

fn tokens(text: &str) -> Result<Vec<(usize, Token)>, BadQuery> {
    let mut tokens = Vec::new();
    let mut count = 0_usize;
    let mut signs = text.chars().zip(1..).peekable();
    while let Some((sign, column)) = signs.next() {
        let token = match sign {
            blank if blank.is_whitespace() => continue,
            '(' => Token::Open,
            ')' => Token::Close,
            '"' => {
                let mut inside = String::new();
                while let Some((sign, _)) = signs.next_if(|(sign, _)| *sign != '"') {
                    inside.push(sign);
                }
                if signs.next().is_none() {
                    return Err(bad(column, "this `\"` is never closed"));
                }
                let prefix = signs.next_if(|(sign, _)| *sign == '*').is_some();
                phrase(inside, prefix, column)?
            }
            sign => {
                let mut word = String::from(sign);
                let more = |sign: char| !sign.is_whitespace() && !"()\"".contains(sign);
                while let Some((sign, _)) = signs.next_if(|(sign, _)| more(*sign)) {
                    word.push(sign);
                }
                match word.as_str() {
                    "AND" => Token::And,
                    "OR" => Token::Or,
                    "NOT" => Token::Not,
                    _ => bare(&word, column)?,
                }
            }
        };
        if let Token::Phrase(phrase) = &token {
            count = count.saturating_add(phrase.words.len());
            if count > QUERY_WORDS_MAX {
                let problem = format!("a search has at most {QUERY_WORDS_MAX} words");
                return Err(bad(column, problem));
            }
        }
        tokens.push((column, token));
    }
    Ok(tokens)
}

/// A word outside quotes. A star inside would not do what it promises.
fn bare(word: &str, column: usize) -> Result<Token, BadQuery> {
    let (stem, prefix) = word.strip_suffix('*').map_or((word, false), |stem| (stem, true));
    if let Some(at) = stem.chars().position(|sign| sign == '*')
        && stem.chars().any(char::is_alphanumeric)
    {
        let problem = "`*` stands at the end of a word, for whatever else the word has";
        return Err(bad(column.saturating_add(at), problem));
    }
    phrase(stem.to_owned(), prefix, column)
}

fn phrase(text: String, prefix: bool, column: usize) -> Result<Token, BadQuery> {
    if let Some(at) = text.chars().position(|sign| sign.is_control() && !sign.is_whitespace()) {
        let column = column.saturating_add(at);
        return Err(bad(column, "this sign is none that can be searched for"));
    }
    let words = words::words(&text).map(|(word, _)| word).collect::<Vec<_>>();
    if words.is_empty() {
        let problem = "here is no letter or digit; the signs between words are not searched for";
        return Err(bad(column, problem));
    }
    let ends_in_word = text.chars().next_back().is_some_and(char::is_alphanumeric);
    Ok(Token::Phrase(Phrase { text, words, prefix: prefix && ends_in_word }))
}

/// The query as it could be typed.
impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = String::new();
        write_node(&self.0, true, &mut text)?;
        f.write_str(&text)
    }
}

fn write_node(node: &Node, outermost: bool, into: &mut String) -> fmt::Result {
    let parenthesis = !outermost && !matches!(node, Node::Phrase(_));
    if parenthesis {
        into.push('(');
    }
    match node {
        Node::Phrase(Phrase { text, prefix, .. }) => {
            write!(into, "\"{text}\"{}", if *prefix { "*" } else { "" })?;
        }
        Node::All(of, but) => {
            for (at, node) in of.iter().enumerate() {
                into.push_str(if at > 0 { " AND " } else { "" });
                write_node(node, false, into)?;
            }
            for node in but {
                into.push_str(" NOT ");
                write_node(node, false, into)?;
            }
        }
        Node::Any(of) => {
            for (at, node) in of.iter().enumerate() {
                into.push_str(if at > 0 { " OR " } else { "" });
                write_node(node, false, into)?;
            }
        }
    }
    if parenthesis {
        into.push(')');
    }
    Ok(())
}

/// For fuzzing: reads any text; what is a query is one again as it is written, and what is
/// rendered for a database has nothing in it but quoted words and our own signs.
///
/// # Panics
///
/// Where that is not so.
pub fn read_and_forget(text: &str) {
    match text.parse::<Query>() {
        Err(wrong) => assert!(wrong.column >= 1 && wrong.column <= text.chars().count() + 1),
        Ok(query) => {
            // Written in full, a query may be too long to be read again.
            let written = query.to_string();
            if written.len() <= QUERY_BYTES_MAX {
                assert_eq!(written.parse().as_ref(), Ok(&query), "{written}");
            }
            for scope in [Scope::Everything, Scope::Names] {
                let outside = query.tsquery(scope).split('\'').step_by(2).collect::<String>();
                assert!(outside.chars().all(|sign| "()&|!<->:*A ".contains(sign)), "{outside}");
                let outside = query.fts5(scope).split('"').step_by(2).collect::<String>();
                let outside = outside.replacen("{verb objects} :", "", 1);
                assert!(outside.chars().all(|sign| "()ANDORT* ".contains(sign)), "{outside}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> Query {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn words_phrases_operators_and_prefixes_are_read() {
        let cases = [
            ("customers AND ssn", "(\"customers\" AND \"ssn\")", "(('customers') & ('ssn'))"),
            ("customers ssn", "(\"customers\" AND \"ssn\")", "(('customers') & ('ssn'))"),
            ("a OR b c", "(\"a\" OR (\"b\" AND \"c\"))", "(('a') | (('b') & ('c')))"),
            ("a NOT b NOT c", "((\"a\") NOT (\"b\" OR \"c\"))", "((('a')) & !(('b') | ('c')))"),
            ("public.cust*", "\"public.cust\" *", "('public' <-> 'cust':*)"),
            ("\"Drop  table\"", "\"Drop  table\"", "('drop' <-> 'table')"),
            ("--dry-run", "\"--dry-run\"", "('dry' <-> 'run')"),
            ("(a OR b) AND and", "((\"a\" OR \"b\") AND \"and\")", "((('a') | ('b')) & ('and'))"),
            ("a' OR '1'='1", "(\"a'\" OR \"'1'='1\")", "(('a') | ('1' <-> '1'))"),
        ];
        for (text, fts5, tsquery) in cases {
            let query = read(text);
            assert_eq!(query.fts5(Scope::Everything), fts5);
            assert_eq!(query.tsquery(Scope::Everything), tsquery, "{text}");
        }
        assert_eq!(read("a*").tsquery(Scope::Names), "('a':*A)");
        assert_eq!(read("a b").fts5(Scope::Names), "{verb objects} : ((\"a\" AND \"b\"))");
    }

    #[test]
    fn what_is_wrong_is_named_with_its_column() {
        let deep = format!("{}a{}", "(".repeat(17), ")".repeat(17));
        let many = "a ".repeat(65);
        let long = "a".repeat(1025);
        let cases = [
            ("", 1, "a word"),
            ("a AND", 6, "a word"),
            ("a AND AND b", 7, "\"AND\""),
            ("OR a", 1, "\"OR\""),
            ("a NOT NOT b", 7, "\"NOT\""),
            ("a (b", 3, "never closed"),
            ("a) b", 2, "closes nothing"),
            ("a ()", 4, "no `)`"),
            ("ä \"b", 3, "never closed"),
            ("a -- b", 3, "no letter"),
            ("NOT a", 1, "say beside it"),
            ("a OR NOT b", 6, "say beside it"),
            ("a cu*st", 5, "at the end"),
            ("a \u{1}b", 3, "none that can be"),
            (&deep, 17, "deeper than 16"),
            (&many, 129, "at most 64 words"),
            (&long, 1024, "at most 1024 bytes"),
        ];
        for (text, column, word) in cases {
            let wrong = text.parse::<Query>().unwrap_err();
            assert_eq!(wrong.column, column, "{text}: {wrong}");
            assert!(wrong.to_string().contains(word), "{text}: {wrong}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(text in any::<String>()) {
            read_and_forget(&text);
        }

        #[test]
        fn any_sequence_of_its_signs_is_read_or_refused(
            parts in prop::collection::vec(
                prop::sample::select(vec![
                    "(", ")", "\"", "*", " ", "AND", " OR ", " NOT ", "a", "ß.b", "'", ":", "-", "{",
                ]),
                0..40,
            ),
        ) {
            read_and_forget(&parts.concat());
        }
    }
}
