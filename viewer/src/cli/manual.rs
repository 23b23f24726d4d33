//! Completions and the manual page, made of the command line's one definition.

use clap::CommandFactory;

use super::args::Arguments;
use crate::error::{Error, Result};
use crate::output;

/// Completions for a shell.
pub fn completions(shell: clap_complete::Shell) -> Result<()> {
    let mut text = Vec::new();
    clap_complete::generate(shell, &mut Arguments::command(), "heapsift", &mut text);
    output::to_stdout(&text)
}

/// One manual page: the command, then each of its commands, and of theirs, with its options.
pub fn page() -> Result<()> {
    // A vector takes everything.
    let text = manual().map_err(|source| Error::io("write", std::path::Path::new("the manual page"), source))?;
    output::to_stdout(&text)
}

fn manual() -> std::io::Result<Vec<u8>> {
    let mut command = Arguments::command();
    command.build();
    let mut text = Vec::new();
    let man = clap_mangen::Man::new(command.clone()).section("1");
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    man.render_synopsis_section(&mut text)?;
    man.render_description_section(&mut text)?;
    man.render_subcommands_section(&mut text)?;
    for sub in subcommands(&command) {
        describe(sub, &format!("heapsift {}", sub.get_name()), &mut text)?;
        for request in subcommands(sub) {
            describe(request, &format!("heapsift {} {}", sub.get_name(), request.get_name()), &mut text)?;
        }
    }
    man.render_version_section(&mut text)?;
    Ok(text)
}

fn subcommands(command: &clap::Command) -> impl Iterator<Item = &clap::Command> {
    command.get_subcommands().filter(|sub| sub.get_name() != "help")
}

/// A section with all that a command of this name takes.
fn describe(command: &clap::Command, name: &str, text: &mut Vec<u8>) -> std::io::Result<()> {
    let man = clap_mangen::Man::new(command.clone());
    let mut section = Vec::new();
    man.render_synopsis_section(&mut section)?;
    man.render_description_section(&mut section)?;
    man.render_options_section(&mut section)?;
    text.extend_from_slice(&under(name, &section));
    Ok(())
}

/// Makes sections the parts of one section.
fn under(title: &str, sections: &[u8]) -> Vec<u8> {
    let mut out = format!(".SH \"{}\"\n", title.to_uppercase()).into_bytes();
    for line in String::from_utf8_lossy(sections).lines() {
        let line = match line.strip_prefix(".SH ") {
            Some(name) => format!(".SS {name}"),
            None => line.to_owned(),
        };
        // Each section repeats what quotation marks are.
        if !line.starts_with(".ie ") && !line.starts_with(".el ") {
            out.extend_from_slice(line.as_bytes());
            out.push(b'\n');
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_has_its_section() {
        let text = String::from_utf8(manual().unwrap()).unwrap();
        for name in ["TOP", "CTL", "CTL GET", "CTL TOP", "SERVE"] {
            assert!(text.contains(&format!("\n.SH \"HEAPSIFT {name}\"\n")), "{name}");
        }
        assert!(text.contains("Seconds between two lines"));
    }
}
