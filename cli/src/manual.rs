//! `leaselock completions` and `leaselock man`: what the command line tells about itself.

use std::io::{self, Write};

use crate::args::{Completions, Manual};
use crate::config;
use crate::exit::{self, Failure};

pub(crate) const COMPLETIONS_HELP: &str = "\
bash: leaselock completions bash > ~/.local/share/bash-completion/completions/leaselock
zsh:  leaselock completions zsh > DIR/_leaselock, DIR being one of $fpath
fish: leaselock completions fish > ~/.config/fish/completions/leaselock.fish";

pub(crate) fn completions(args: &Completions) -> Result<u8, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut config::command(), "leaselock", &mut script);
    print(&script)
}

pub(crate) fn manual(args: &Manual) -> Result<u8, Failure> {
    let mut page = config::command();
    // Gives each subcommand the options that all of them have, and its whole name.
    page.build();
    for word in &args.command {
        page = page.find_subcommand(word).cloned().ok_or_else(|| {
            let message = format!("there is no command {:?}", args.command.join(" "));
            Failure::new(exit::USAGE, message).hint("`leaselock --help` lists them")
        })?;
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(page)
        .render(&mut text)
        .map_err(|error| Failure::new(exit::INTERNAL, format!("no manual page: {error}")))?;
    print(&text)
}

fn print(text: &[u8]) -> Result<u8, Failure> {
    match io::stdout().lock().write_all(text) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Failure::new(exit::INTERNAL, format!("cannot print: {error}")))
        }
        _ => Ok(0),
    }
}
