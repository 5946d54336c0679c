//! Forging a proof is a compile error, shown where it counts: beside the proofs, inside the crate's
//! privacy. The very file that defines them is included into a small crate with a forger next to
//! it; the same crate without the forger must compile, so that a broken set-up cannot pass.

use std::fs;
use std::path::Path;
use std::process::Command;

/// Compiles `session/guard/proof.rs` with `forger` as a sibling of the guard; gives the errors.
fn compile(forger: &str) -> Result<(), String> {
    let dir = tempfile::tempdir().unwrap();
    let proof = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/session/guard/proof.rs");
    let text = fs::read_to_string(proof).unwrap();
    // `thiserror` is a crate that the small crate has not; the proofs do not depend on it.
    let text = text.replace(", thiserror::Error)", ")").replace("#[error(", "#[doc = concat!(");
    fs::write(dir.path().join("proof.rs"), text).unwrap();
    let main = format!(
        "#![allow(dead_code)]
         mod model {{ #[derive(Debug, Clone, Copy, PartialEq, Eq)] pub struct SessionId; }}
         mod session {{
             pub mod guard {{ #[path = \"{}\"] pub mod proof; }}
             pub mod forger {{ use super::guard::proof::*; use crate::model::SessionId; {forger} }}
         }}
         fn main() {{}}",
        dir.path().join("proof.rs").display()
    );
    let file = dir.path().join("main.rs");
    fs::write(&file, main).unwrap();
    let output = Command::new("rustc")
        .args(["--edition", "2024", "--emit", "metadata", "--out-dir"])
        .arg(dir.path())
        .arg(&file)
        .output()
        .expect("rustc is needed to compile a forger");
    if output.status.success() {
        Ok(())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

#[test]
fn an_honest_neighbor_compiles() {
    compile("pub fn honest(c: Cleared<u8>) -> u8 { c.unseal(SessionId).unwrap() }").unwrap();
}

#[test]
fn a_forger_does_not_compile() {
    for (forger, error) in [
        ("pub fn f() -> Cleared<u8> { Cleared { session: SessionId, frame: 1 } }", "E0451"),
        ("pub fn f() -> Released<u8> { Released { session: SessionId, answer: 1 } }", "E0451"),
        ("pub fn f() -> Cleared<u8> { Cleared::once_recorded(SessionId, 1) }", "E0624"),
        ("pub fn f() -> Released<u8> { Released::once_masked(SessionId, 1) }", "E0624"),
        ("pub fn f(c: Cleared<u8>) -> u8 { c.frame }", "E0616"),
        ("pub fn f(c: &Cleared<u8>) -> Cleared<u8> { c.clone() }", "E0308"),
    ] {
        let errors = compile(forger).expect_err(forger);
        assert!(errors.contains(error), "{forger}:\n{errors}");
    }
}
