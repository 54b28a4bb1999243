//! `cargo xtask`: the build steps of Wharf beyond `cargo build`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};

mod base_image;
mod bench;
mod browser;
mod command;
mod engine;
mod guest;
mod licences;
mod load;
mod package;
mod quickstart;
mod rustdoc;
mod setup;
mod smoke;
mod stage;
mod test;

const USAGE: &str = "\
usage: cargo xtask <command>

commands:
  quickstart [--install-engine]   arrange everything, build wharf, and run it on an example project
  test [-- NEXTEST-ARGUMENTS]     everything that CI runs: format, licences, clippy, plugins, tests on the engine
  bench [ROUNDS]                  wharf against the docker CLI, interleaved: medians and ratios
  browser [--pictures] [WORDS]    the dashboard in headless Chromium; --pictures renews those of the documentation
  load                            a service under load: a hundred workspaces, hundreds of clients, a kill in between
  smoke                           the main verbs on the engine that DOCKER_HOST names, Podman's socket for instance
  setup [--install-engine]        only what both need: a Docker engine, the image wharf-base:local, the plugins
  plugins [--debian]              only the plugins, into target/plugins and target/test-plugins;
                                  --debian uses Debian's toolchain even where the installed one would do
  package                         the packages that are published, with the plugins, each built from what it holds

--install-engine lets it install a missing Docker engine (on Debian, as root); with CI=true it does so unasked.";

fn main() -> ExitCode {
    if let Some(real) = std::env::var_os(rustdoc::REAL) {
        let args: Vec<_> = std::env::args_os().skip(1).collect();
        return rustdoc::run(&real, &args).unwrap_or_else(|error| {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        });
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["quickstart"] => quickstart::run(&root()?, false),
        ["quickstart", "--install-engine"] => quickstart::run(&root()?, true),
        ["test"] => test::run(&root()?, &[]),
        ["test", "--", ..] => test::run(&root()?, args.get(2..).unwrap_or_default()),
        ["bench"] => bench::run(&root()?, 15),
        ["bench", rounds] => bench::run(&root()?, rounds.parse().context("ROUNDS is a number")?),
        ["browser", "--pictures", ..] => browser::run(&root()?, true, args.get(2..).unwrap_or_default()),
        ["browser", ..] => browser::run(&root()?, false, args.get(1..).unwrap_or_default()),
        ["load"] => load::run(&root()?),
        ["smoke"] => smoke::run(&root()?),
        ["setup"] => setup::run(&root()?, false, &mut stage::Stages::new()),
        ["setup", "--install-engine"] => setup::run(&root()?, true, &mut stage::Stages::new()),
        ["plugins"] => guest::build(&root()?, guest::Source::Any),
        ["plugins", "--debian"] => guest::build(&root()?, guest::Source::Debian),
        ["package"] => package::run(&root()?),
        ["help" | "--help" | "-h"] => {
            println!("{USAGE}");
            Ok(())
        }
        [] => bail!("no command given\n\n{USAGE}"),
        other => bail!("no command `{}`\n\n{USAGE}", other.join(" ")),
    }
}

/// Returns the root of the workspace that this helper was built in.
fn root() -> Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = here.ancestors().nth(2).context("host/xtask has no workspace around it")?;
    Ok(root.to_owned())
}
