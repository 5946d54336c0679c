//! A refusal as a `Status`, which kubectl prints as
//! `Error from server (Forbidden): <reason> [<rules>]; <hint>`.

use serde_json::json;

use crate::model::Refusal;
use crate::model::refusal::RefusalCode;
use crate::protocol::http::Told;
use crate::protocol::http::Worded;

/// Words a refusal.
pub fn word(refusal: &Refusal, told: &Told<'_>) -> Worded {
    let hint = refusal.hint.as_deref().map(|hint| format!("; {hint}")).unwrap_or_default();
    let ids = [
        ("session", told.session.map(|session| session.to_string())),
        ("hold", told.hold.map(ToString::to_string)),
    ];
    let causes = ids
        .into_iter()
        .filter_map(|(name, id)| Some(json!({"reason": name, "message": id?})))
        .collect::<Vec<_>>();
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": format!("{refusal}{hint}"),
        "reason": reason(refusal.code),
        "details": {"causes": causes},
        "code": told.status.as_u16(),
    });
    Worded { content_type: "application/json", body: status.to_string() }
}

/// The machine-readable reason (`k8s.io/apimachinery/pkg/apis/meta/v1`, `StatusReason`).
fn reason(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::Denied
        | RefusalCode::Residency
        | RefusalCode::Declined
        | RefusalCode::Withheld
        | RefusalCode::Unsupported => "Forbidden",
        RefusalCode::TimedOut | RefusalCode::Canceled => "Timeout",
        RefusalCode::Unauthenticated | RefusalCode::StepUp => "Unauthorized",
        RefusalCode::NoTarget => "NotFound",
        RefusalCode::Malformed => "BadRequest",
        RefusalCode::TooLarge => "RequestEntityTooLarge",
        RefusalCode::Unrecorded | RefusalCode::TargetFailed | RefusalCode::SessionEnded => {
            "ServiceUnavailable"
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use serde_json::Value;

    use super::*;

    #[test]
    fn a_refusal_says_why_by_which_rule_and_what_to_do() {
        let refusal = Refusal::new(RefusalCode::Denied, "deleting a namespace needs an approval")
            .by(vec!["cluster.destruction".parse().unwrap()])
            .hint("ask dana");
        let told = Told {
            status: StatusCode::FORBIDDEN,
            head: None,
            target: None,
            session: None,
            hold: None,
        };
        let worded = word(&refusal, &told);
        let status: Value = serde_json::from_str(&worded.body).unwrap();
        assert_eq!(
            status["message"],
            "deleting a namespace needs an approval [cluster.destruction]; ask dana"
        );
        assert_eq!((&status["kind"], &status["reason"]), (&json!("Status"), &json!("Forbidden")));
        assert_eq!((worded.content_type, &status["code"]), ("application/json", &json!(403)));
    }
}
