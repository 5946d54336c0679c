//! `weir demo`: a gateway with embedded defaults in front of real servers.

/// x
#[derive(Debug)]
pub struct Options {
    /// x
    pub state_dir: Option<std::path::PathBuf>,
    /// x
    pub port: u16,
    /// x
    pub office_port: u16,
    /// x
    pub kubeconfig: Option<std::path::PathBuf>,
}
/// x
#[derive(Debug)]
pub struct Ready;
impl Ready {
    /// x
    pub fn json(&self) -> serde_json::Value {
        serde_json::Value::Null
    }
    /// x
    pub fn lines(&self) -> String {
        String::new()
    }
}
/// x
pub fn run(_: &Options, _: impl FnOnce(&Ready)) -> Result<(), std::io::Error> {
    Ok(())
}
