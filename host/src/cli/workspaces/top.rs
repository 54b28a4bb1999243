//! `wharf top`: the usage of all workspaces, on the whole screen.
//!
//! It does not use `ratatui` (0.30.2 was tried, with the backend for crossterm alone), which saves 8 lines here and
//! adds 28 crates; without its umbrella crate it adds 24 and saves no line. It sends only the changed cells, so text
//! that another program writes to the terminal stays. It also writes to standard output directly, which `terminal`
//! limits to printable text.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::{cursor, terminal as screen_mode};
use tokio::sync::{mpsc, watch};

use crate::cli::{Context, Failure, terminal};

mod screen;
use screen::{Column, Screen};

/// The time between two readings.
const REFRESH: Duration = Duration::from_secs(1);
/// The time from the first reading, which has no CPU figures, to the second.
const FIRST: Duration = Duration::from_millis(200);

/// Arguments.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Ids or names [default: all]
    workspaces: Vec<String>,
}

/// The terminal in the mode of this command; dropping it restores the previous mode.
struct FullScreen;

impl FullScreen {
    fn enter() -> std::io::Result<Self> {
        screen_mode::enable_raw_mode()?;
        // From here on, dropping it restores the terminal.
        let this = Self;
        crossterm::execute!(terminal::raw_out(), screen_mode::EnterAlternateScreen, cursor::Hide)?;
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            restore();
            usual(panic);
        }));
        Ok(this)
    }
}

/// Restores the terminal. A failure is ignored: the terminal is gone then.
fn restore() {
    let _ = crossterm::execute!(terminal::raw_out(), screen_mode::LeaveAlternateScreen, cursor::Show);
    let _ = screen_mode::disable_raw_mode();
}

impl Drop for FullScreen {
    fn drop(&mut self) {
        restore();
    }
}

/// Returns keys and changes of the size, read by a thread that may block.
fn events() -> mpsc::Receiver<std::io::Result<Event>> {
    let (to, events) = mpsc::channel(16);
    std::thread::spawn(move || {
        while !to.is_closed() {
            let next = match event::poll(Duration::from_millis(100)) {
                Ok(false) => continue,
                Ok(true) => event::read(),
                Err(error) => Err(error),
            };
            let failed = next.is_err();
            if to.blocking_send(next).is_err() || failed {
                return;
            }
        }
    });
    events
}

/// Runs the command.
pub(crate) async fn run(context: &Context, args: &Args) -> Result<u8, Failure> {
    if context.out.json || !terminal::is_out() || !std::io::stdin().is_terminal() {
        return Err(Failure::new(
            "no-terminal",
            "'top' needs a terminal for input and output",
            "use 'wharf stats', or 'wharf stats --json' in programs",
            2,
        ));
    }
    let backend = context.backend(&[])?;
    let mut stop = backend.stopper().await?.subscribe();
    let mut watch = backend.readings(&args.workspaces).await?;
    let mut screen = Screen::default();
    let mut typed = events();
    let _full = FullScreen::enter()?;
    let mut pause = FIRST;
    loop {
        let read = {
            let mut read = std::pin::pin!(watch.read());
            loop {
                tokio::select! {
                    read = &mut read => break read,
                    code = told(&mut screen, &mut typed, &mut stop) => if let Some(code) = code? { return Ok(code) },
                }
                draw(&screen)?;
            }
        };
        // A restarting engine comes back; the last reading stays on the screen meanwhile.
        match read {
            Ok(all) => screen.update(all),
            Err(error) => screen.failed(error.to_string()),
        }
        let next = tokio::time::sleep(pause);
        pause = REFRESH;
        tokio::pin!(next);
        loop {
            draw(&screen)?;
            tokio::select! {
                () = &mut next => break,
                code = told(&mut screen, &mut typed, &mut stop) => if let Some(code) = code? { return Ok(code) },
            }
        }
    }
}

/// Waits for a key or a signal, and acts on it. Returns the exit code if it ends the command.
async fn told(
    screen: &mut Screen,
    typed: &mut mpsc::Receiver<std::io::Result<Event>>,
    stop: &mut watch::Receiver<bool>,
) -> Result<Option<u8>, Failure> {
    tokio::select! {
        _ = stop.wait_for(|stop| *stop) => Ok(Some(130)),
        event = typed.recv() => match event {
            Some(event) => Ok(act(screen, &event?)),
            None => Ok(Some(0)),
        },
    }
}

/// Acts on a key. Returns the exit code if it ends the command.
fn act(screen: &mut Screen, event: &Event) -> Option<u8> {
    let Event::Key(KeyEvent { code, modifiers, kind: KeyEventKind::Press | KeyEventKind::Repeat, .. }) = event else {
        return None;
    };
    match code {
        KeyCode::Char('c' | 'd') if modifiers.contains(KeyModifiers::CONTROL) => return Some(130),
        KeyCode::Char('q') | KeyCode::Esc => return Some(0),
        KeyCode::Up | KeyCode::Char('k') => screen.select(-1),
        KeyCode::Down | KeyCode::Char('j') => screen.select(1),
        KeyCode::PageUp => screen.select(-10),
        KeyCode::PageDown => screen.select(10),
        KeyCode::Home => screen.select(isize::MIN),
        KeyCode::End => screen.select(isize::MAX),
        KeyCode::Char(key) => {
            if let Some(column) = Column::of_key(*key) {
                screen.sort_by(column);
            }
        }
        _ => {}
    }
    None
}

fn draw(screen: &Screen) -> std::io::Result<()> {
    let (width, height) = screen_mode::size()?;
    let mut bytes = b"\x1b[H".to_vec();
    for (index, line) in screen.lines(usize::from(width), usize::from(height)).iter().enumerate() {
        if index > 0 {
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(line.look.as_bytes());
        bytes.extend_from_slice(line.text.as_str().as_bytes());
        bytes.extend_from_slice(b"\x1b[0m\x1b[K");
    }
    bytes.extend_from_slice(b"\x1b[J");
    let mut out = terminal::raw_out().lock();
    out.write_all(&bytes)?;
    out.flush()
}
