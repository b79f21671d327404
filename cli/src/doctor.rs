//! `leaselock doctor`: can this store hold locks?

use std::io::{self, IsTerminal};

use leaselock::{Diagnosis, Finding, Verdict};

use crate::args::{Doctor, Global};
use crate::exit::{self, Failure};
use crate::{ls, people};

pub(crate) async fn doctor(global: &Global, args: &Doctor) -> Result<u8, Failure> {
    let store = crate::open(global).await?;
    let diagnosis = store.diagnose().await?;
    let text = match args.json {
        true => diagnosis.to_json(),
        false => {
            let colours = io::stdout().is_terminal() && people::colours_are_welcome();
            report(store.url(), &diagnosis, colours)
        }
    };
    ls::print(&mut io::stdout().lock(), &text)?;
    match worst(diagnosis) {
        None => Ok(0),
        Some(Finding { error: Some(error), .. }) => Err(error.into()),
        Some(Finding { verdict: Verdict::Unclear, .. }) => {
            let message = "the store gave too few clear answers";
            Err(Failure::new(exit::UNAVAILABLE, message).hint("try again"))
        }
        Some(Finding { check, seen, consequence, .. }) => {
            let message = format!("this store cannot hold locks ({check}: {seen})");
            let wrong = consequence.unwrap_or("locks that do not work");
            Err(Failure::new(exit::CONFIGURATION, message)
                .hint(format!("do not keep locks there: there would be {wrong}")))
        }
    }
}

/// What is known to be wrong says more than what is not known.
fn worst(diagnosis: Diagnosis) -> Option<Finding> {
    let mut findings = diagnosis.findings;
    let mut first = |wanted| {
        let at = findings.iter().position(|finding| finding.verdict == wanted)?;
        Some(findings.swap_remove(at))
    };
    first(Verdict::Failed).or_else(|| first(Verdict::Unclear))
}

fn report(url: &str, diagnosis: &Diagnosis, colours: bool) -> String {
    let mut lines = vec![url.to_owned()];
    let (left, tried): (Vec<_>, Vec<_>) =
        diagnosis.findings.iter().partition(|finding| finding.verdict == Verdict::NotTried);
    lines.extend(tried.into_iter().map(|finding| line(finding, colours)));
    if !left.is_empty() {
        lines.push(format!("- {} more steps were not tried because of that", left.len()));
    }
    let verdict = match diagnosis.is_fit() {
        true => "it can hold locks",
        false => "it cannot hold locks, or that could not be seen",
    };
    lines.push(verdict.to_owned());
    lines.join("\n")
}

fn line(finding: &Finding, colours: bool) -> String {
    let (mark, colour) = match finding.verdict {
        Verdict::Passed => ('✓', 32),
        Verdict::Warning => ('!', 33),
        Verdict::Failed => ('✗', 31),
        // Also what a later version of the library may say.
        _ => ('?', 33),
    };
    let mark = if colours { format!("\u{1b}[{colour}m{mark}\u{1b}[0m") } else { mark.to_string() };
    let took = format!("{:.1} ms", finding.took.as_secs_f64() * 1000.0);
    let mut line = format!("{mark} {:<38} {took:>10}  {}", finding.check, finding.seen);
    if let Some(consequence) = finding.consequence {
        line.push_str(&format!("\n    {}", consequence_of(finding.verdict, consequence)));
    }
    line
}

fn consequence_of(verdict: Verdict, what: &str) -> String {
    match verdict {
        Verdict::Failed => format!("what would follow: {what}"),
        _ => format!("what may follow: {what}"),
    }
}
