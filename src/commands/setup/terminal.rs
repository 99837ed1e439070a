//! Questions on a terminal.

use std::io::{self, BufRead as _, IsTerminal as _};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    task::spawn_blocking,
};

use crate::commands::{ExitError, output};

/// The terminal that a person answers on.
#[derive(Debug)]
pub(super) struct Terminal {
    /// Listens from the start, so that no Ctrl-C between two questions is lost.
    interrupt: Signal,
}

impl Terminal {
    /// # Errors
    /// There is no terminal to ask on.
    pub(super) fn open() -> Result<Self, ExitError> {
        if io::stdin().is_terminal() {
            let interrupt = signal(SignalKind::interrupt())?;
            return Ok(Self { interrupt });
        }
        let why = "setup asks questions and needs a terminal (docker: run -it); without one, write a settings file by hand";
        Err(ExitError::Unwell(why.to_owned()))
    }

    /// A line without blanks around it, or what stands for an empty one.
    pub(super) async fn ask(&mut self, question: &str, default: &str) -> Result<String, ExitError> {
        let shown = if default.is_empty() {
            String::new()
        } else {
            format!(" [{default}]")
        };
        output::print(&format!("{question}{shown}: "))?;
        let line = self.read_line().await?;
        let answer = line.trim();
        Ok(if answer.is_empty() { default } else { answer }.to_owned())
    }

    /// A line that the terminal does not show, as it is.
    pub(super) async fn ask_secret(&mut self, question: &str) -> Result<String, ExitError> {
        let _hidden = HiddenInput::start()?;
        output::print(&format!("{question}: "))?;
        self.read_line().await
    }

    /// Yes or no.
    pub(super) async fn confirm(&mut self, question: &str, default: bool) -> Result<bool, ExitError> {
        let answer = self.ask(question, if default { "Y/n" } else { "y/N" }).await?;
        Ok(match answer.to_lowercase().as_str() {
            "y" | "yes" => true,
            "n" | "no" => false,
            _ => default,
        })
    }

    /// A line without its end. Ctrl-C and the end of the input end the command.
    async fn read_line(&mut self) -> Result<String, ExitError> {
        let reading = spawn_blocking(|| {
            let mut line = String::new();
            let bytes = io::stdin().lock().read_line(&mut line)?;
            Ok::<_, io::Error>((bytes > 0).then_some(line))
        });
        let line = tokio::select! {
            line = reading => line.map_err(io::Error::other)??,
            _ = self.interrupt.recv() => None,
        };
        let ended = || ExitError::Unwell("ended; nothing was written".to_owned());
        let line = line.ok_or_else(ended)?;
        Ok(line.trim_end_matches(['\r', '\n']).to_owned())
    }
}

/// Until it is dropped, the terminal shows nothing of what is typed but the end of the line.
struct HiddenInput(Termios);

impl HiddenInput {
    fn start() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        hidden.local_modes.insert(LocalModes::ECHONL);
        tcsetattr(io::stdin(), OptionalActions::Now, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for HiddenInput {
    fn drop(&mut self) {
        // A terminal that is gone shows nothing anyway.
        let _gone = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
