//! Links between the documents lead to a file and a heading that are there.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// The documents that people read outside of the code.
fn documents() -> Vec<PathBuf> {
    let is_document = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "md");
    let folders = ["", "docs/protocol", "tests/conversations"];
    let entries =
        folders.iter().flat_map(|folder| fs::read_dir(Path::new(ROOT).join(folder)).expect("a folder"));
    entries.map(|entry| entry.expect("an entry").path()).filter(is_document).collect()
}

/// The lines that are neither in a block of code nor code between words.
fn prose(text: &str) -> String {
    let mut inside = false;
    let mut prose = String::new();
    for line in text.lines() {
        if line.starts_with("```") {
            inside = !inside;
        } else if !inside {
            line.split('`').step_by(2).for_each(|words| prose.push_str(words));
            prose.push('\n');
        }
    }
    prose
}

/// As a heading is written in a link.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut inside = false;
    let headings = text.lines().filter(|line| {
        inside ^= line.starts_with("```");
        !inside && line.starts_with('#')
    });
    let kept = |letter: &char| letter.is_alphanumeric() || [' ', '-', '_'].contains(letter);
    let anchor = |heading: &str| -> String {
        let words = heading.trim_start_matches('#').trim().to_lowercase();
        words.chars().filter(kept).map(|letter| if letter == ' ' { '-' } else { letter }).collect()
    };
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    if !Path::new(ROOT).join("wire").exists() {
        return println!("skipped: this package comes without the others, to which links lead");
    }
    let mut count = 0;
    for document in documents() {
        let text = fs::read_to_string(&document).expect("a document");
        for link in prose(&text).split("](").skip(1) {
            let target = link.split(')').next().unwrap_or_default();
            if target.contains("://") {
                continue;
            }
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let place = match file {
                "" => document.clone(),
                file => document.parent().expect("its folder").join(file),
            };
            let from = document.display();
            assert!(place.exists(), "{from}: nothing is at {target}");
            if !anchor.is_empty() {
                let there = fs::read_to_string(&place).expect("a document");
                assert!(anchors(&there).contains(anchor), "{from}: no heading is {target}");
            }
            count += 1;
        }
    }
    assert!(count > 20, "only {count} were found");
}
