//! Metrics: what a gateway measures of itself, as a page that Prometheus reads (`OpenMetrics` 1.0).
//!
//! Knows no other module: whoever composes a gateway fills a [`Sheet`] when the page is asked for.
//! Names and labels are few and fixed. None of them is a person, a target's data or a text that a
//! client chose, so that a page can be shown to whoever runs the gateway.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use prometheus_client::registry::Unit;

/// The media type of a page.
pub const PAGE_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What was measured, in the order in which it is shown.
#[derive(Debug, Default)]
pub struct Sheet(Vec<Measured>);

/// One thing that was measured.
#[derive(Debug)]
struct Measured {
    name: &'static str,
    help: &'static str,
    unit: Option<Unit>,
    kind: MetricType,
    label: Vec<(&'static str, String)>,
    value: f64,
}

impl Sheet {
    /// A number that goes up and down. The name's unit is its end: `_bytes`, `_seconds`.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.add(name, help, MetricType::Gauge, Vec::new(), value);
    }

    /// A number that only goes up. `_total` is put behind its name.
    pub fn counter(&mut self, name: &'static str, help: &'static str, value: f64) {
        self.add(name, help, MetricType::Counter, Vec::new(), value);
    }

    /// A text that changes seldom: the number is 1, and the text is a label.
    pub fn fact(&mut self, name: &'static str, help: &'static str, label: &[(&'static str, &str)]) {
        let label = label.iter().map(|(key, value)| (*key, (*value).to_owned())).collect();
        self.add(name, help, MetricType::Gauge, label, 1.0);
    }

    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: MetricType,
        label: Vec<(&'static str, String)>,
        value: f64,
    ) {
        // The library writes the unit behind the name.
        let (name, unit) = match (name.strip_suffix("_bytes"), name.strip_suffix("_seconds")) {
            (Some(name), _) => (name, Some(Unit::Bytes)),
            (None, Some(name)) => (name, Some(Unit::Seconds)),
            (None, None) => (name, None),
        };
        self.0.push(Measured { name, help, unit, kind, label, value });
    }

    /// The page.
    pub fn page(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::with_prefix("weir");
        registry.register_collector(Box::new(self));
        let mut page = String::new();
        encode(&mut page, &registry)?;
        Ok(page)
    }
}

impl Collector for Sheet {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        for Measured { name, help, unit, kind, label, value } in &self.0 {
            let mut metric = encoder.encode_descriptor(name, help, unit.as_ref(), *kind)?;
            if matches!(kind, MetricType::Counter) {
                metric.encode_counter::<[(&str, &str); 0], f64, f64>(value, None)?;
            } else if label.is_empty() {
                metric.encode_gauge(value)?;
            } else {
                metric.encode_family(label)?.encode_gauge(value)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_names_each_measure_with_its_unit_and_ends() {
        let mut sheet = Sheet::default();
        sheet.gauge("spool_bytes", "What waits", 12.0);
        sheet.counter("ledger_entries", "Entries", 3.0);
        sheet.fact("store", "Which", &[("store", "s3://a \"b\"\nc"), ("region", "eu")]);
        let page = sheet.page().unwrap();
        for line in [
            "# TYPE weir_spool_bytes gauge",
            "# UNIT weir_spool_bytes bytes",
            "weir_spool_bytes 12.0",
            "# TYPE weir_ledger_entries counter",
            "weir_ledger_entries_total 3.0",
            r#"weir_store{store="s3://a \"b\"\nc",region="eu"} 1.0"#,
            "# EOF",
        ] {
            assert!(page.lines().any(|there| there == line), "no {line} in {page}");
        }
    }
}
