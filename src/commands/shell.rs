//! `completions` and `man`: for packages, from the definition of the command line.

use clap::CommandFactory as _;

use super::{ExitError, output};
use crate::cli::{Cli, CompletionsArgs, ManArgs};

pub(super) fn completions(args: &CompletionsArgs) -> Result<(), ExitError> {
    // The generator panics when it cannot write, as into a pipe that is closed.
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "tapo2mqtt", &mut script);
    output::print(&String::from_utf8_lossy(&script))
}

pub(super) fn man(args: &ManArgs) -> Result<(), ExitError> {
    // `help` has no page of its own.
    let mut program = Cli::command().disable_help_subcommand(true);
    program.build();
    let wanted = match &args.command {
        None => program,
        Some(name) => program
            .find_subcommand(name)
            .cloned()
            .ok_or_else(|| ExitError::Unwell(format!("there is no command {name}")))?,
    };
    let mut page = Vec::new();
    clap_mangen::Man::new(wanted).render(&mut page)?;
    output::print(&String::from_utf8_lossy(&page))
}
