//! Receipts among the files: each verifies alone, and where its ledger is there too, is compared.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::path::PathBuf;

use crate::audit::note::Checkpoint;
use crate::audit::note::Verifier;
use crate::audit::proof::RECEIPT_BYTES_MAX;
use crate::audit::proof::Receipt;
use crate::audit::verify::Problem;
use crate::audit::verify::ReceiptReport;
use crate::audit::verify::VerifyError;
use crate::audit::verify::ledgers::Ledger;
use crate::audit::verify::report::Findings;
use crate::model::fault::Chain;

/// A receipt that fits its own checkpoint.
#[derive(Debug)]
pub(super) struct Read {
    pub(super) file: PathBuf,
    pub(super) receipt: Receipt,
    pub(super) checkpoint: Checkpoint,
}

/// Reads the receipts; those that prove nothing are problems.
pub(super) fn read(
    files: &[PathBuf],
    findings: &mut Findings<'_>,
) -> Result<Vec<Read>, VerifyError> {
    let mut all = Vec::new();
    for file in files {
        let text = text(file)?;
        let receipt = text.parse::<Receipt>();
        let verified = receipt.and_then(|receipt| {
            let checkpoint = receipt.verify_inclusion()?;
            Ok(Read { file: file.clone(), receipt, checkpoint })
        });
        match verified {
            Ok(read) => all.push(read),
            Err(error) => findings.problem(Problem::of(file, Chain(&error).to_string())),
        }
    }
    Ok(all)
}

/// Judges who has signed them, once the ledgers were read.
pub(super) fn judge(
    receipts: &[Read],
    ledgers: &[Ledger],
    keys: &[Verifier],
    findings: &mut Findings<'_>,
) {
    for Read { file, receipt, checkpoint } in receipts {
        let origin = checkpoint.origin.as_str();
        let its = ledgers.iter().find(|ledger| ledger.is_called(origin) == Some(true));
        let trusted = its.map_or(keys, |ledger| &ledger.trusted);
        let own = its.map_or(&[][..], |ledger| &ledger.own);
        let (judged, signed) = match (trusted.is_empty(), own.is_empty()) {
            (false, _) => (receipt.verify(trusted), true),
            (true, false) => (receipt.verify(own), false),
            (true, true) => (receipt.verify_inclusion(), false),
        };
        match judged {
            Ok(_) => findings.proved(ReceiptReport {
                file: file.clone(),
                origin: origin.to_owned(),
                number: receipt.number(),
                entry: String::from_utf8(receipt.entry().to_vec()).ok(),
                signed,
            }),
            Err(error) => findings.problem(Problem::of(file, Chain(&error).to_string())),
        }
    }
}

fn text(path: &Path) -> Result<String, VerifyError> {
    let mut bytes = Vec::new();
    let limit = u64::try_from(RECEIPT_BYTES_MAX).unwrap_or(u64::MAX).saturating_add(1);
    let file = File::open(path).map_err(VerifyError::io(path))?;
    file.take(limit).read_to_end(&mut bytes).map_err(VerifyError::io(path))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
