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

/// One manual page: the command, then each of its commands with its options.
pub fn page() -> Result<()> {
    let mut command = Arguments::command();
    command.build();
    let mut text = Vec::new();
    let render = |text: &mut Vec<u8>| -> std::io::Result<()> {
        let man = clap_mangen::Man::new(command.clone()).section("1");
        man.render_title(text)?;
        man.render_name_section(text)?;
        man.render_synopsis_section(text)?;
        man.render_description_section(text)?;
        man.render_subcommands_section(text)?;
        for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
            let man = clap_mangen::Man::new(sub.clone());
            let mut section = Vec::new();
            man.render_synopsis_section(&mut section)?;
            man.render_description_section(&mut section)?;
            man.render_options_section(&mut section)?;
            text.extend_from_slice(&under(&format!("heapsift {}", sub.get_name()), &section));
        }
        man.render_version_section(text)
    };
    // A vector takes everything.
    render(&mut text).map_err(|source| Error::io("write", std::path::Path::new("the manual page"), source))?;
    output::to_stdout(&text)
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
