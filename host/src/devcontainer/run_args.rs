//! `runArgs`: arguments of `docker run`. Those that correspond to a field of a workspace set that field; the others
//! are listed.

use super::json::{Node, Wrong};
use super::properties::Reader;
use super::values;
use crate::hooks::Adjustment;
use crate::workspace::{Network, notation};

/// Arguments without a value.
const SWITCHES: [&str; 15] = [
    "--init",
    "--privileged",
    "--read-only",
    "--rm",
    "--tty",
    "-t",
    "--interactive",
    "-i",
    "-it",
    "--detach",
    "-d",
    "--publish-all",
    "-P",
    "--no-healthcheck",
    "--oom-kill-disable",
];

impl Reader<'_> {
    /// Parses the arguments in order.
    pub(super) fn run_args(&mut self, words: &[(String, &Node)]) -> Result<(), Wrong> {
        let mut words = words.iter().peekable();
        while let Some((word, node)) = words.next() {
            if let Some((flag, value)) = word.split_once('=').filter(|(flag, _)| flag.starts_with("--")) {
                self.item(&format!("runArgs {flag}"), node, |reader| reader.run_arg(flag, Some(value), node))?;
            } else if SWITCHES.contains(&word.as_str()) {
                self.run_arg(word, None, node)?;
            } else {
                let value = words.next_if(|(value, _)| word.starts_with('-') && !value.starts_with('-'));
                let value = value.map(|(value, _)| value.as_str());
                self.item(&format!("runArgs {word}"), node, |reader| reader.run_arg(word, value, node))?;
            }
        }
        Ok(())
    }

    // Long because it is the table of flags.
    fn run_arg(&mut self, flag: &str, value: Option<&str>, node: &Node) -> Result<(), Wrong> {
        let property = format!("runArgs {flag}");
        let line = node.line;
        let wrong = |what: String| Wrong { offset: node.offset, what: format!("{flag}: {what}") };
        let on = !matches!(value, Some("false"));
        match flag {
            "--init" => {
                if !on {
                    self.not(&property, line, "an init process always runs where the engine has one");
                }
                return Ok(());
            }
            "--read-only" => {
                return if on { self.field(node, Adjustment::ReadOnlyRoot(true)) } else { Ok(()) };
            }
            "--privileged" => {
                if on {
                    self.not(&property, line, "a workspace is never privileged");
                }
                return Ok(());
            }
            _ => {}
        }
        let Some(value) = value else {
            self.not(&property, line, "it matches no field of a workspace");
            return Ok(());
        };
        let value = match flag {
            // `env` below expands it, as it does for containerEnv.
            "-e" | "--env" => value.to_owned(),
            // They are split first.
            "-v" | "--volume" | "--mount" => value.to_owned(),
            _ => self.fill(&property, line, value, false),
        };
        let edit = match flag {
            "-e" | "--env" => {
                let host = format!("${{localEnv:{value}}}");
                let (name, value) = value.split_once('=').unwrap_or((&value, &host));
                return self.env(node, &format!("{property} {name}"), name, value);
            }
            "-m" | "--memory" => Adjustment::Memory(notation::size(&value).map_err(wrong)?),
            "--cpus" => {
                let cpus = value.parse().map_err(|_| wrong(format!("'{value}' is not a number of cores")))?;
                Adjustment::Cpus(cpus)
            }
            "--shm-size" => Adjustment::ShmSize(Some(notation::size(&value).map_err(wrong)?)),
            "--pids-limit" => match value.parse() {
                Ok(pids) => Adjustment::Pids(pids),
                Err(_) if value == "-1" => {
                    self.not(&property, line, "a workspace always has a limit");
                    return Ok(());
                }
                Err(_) => return Err(wrong(format!("'{value}' is not a number of processes"))),
            },
            "--ulimit" => {
                let (name, limit) = notation::ulimit(&value).map_err(wrong)?;
                Adjustment::Ulimit(name, Some(limit))
            }
            "--tmpfs" => {
                let (edit, ignored) = values::tmpfs(&value).map_err(wrong)?;
                for option in ignored {
                    self.not(&format!("{property} {option}"), line, "this option is ignored");
                }
                edit
            }
            "-u" | "--user" => Adjustment::User(Some(value)),
            "-h" | "--hostname" => Adjustment::Hostname(value),
            "--restart" => Adjustment::Restart(value.parse().map_err(wrong)?),
            "-p" | "--publish" => return self.publish(node, &value),
            "-v" | "--volume" => self.volume_words(&property, node, &value)?.adjustment().map_err(wrong)?,
            "--mount" => self.mount_words(&property, node, &value)?.adjustment().map_err(wrong)?,
            "--network" | "--net" if value == "none" => Adjustment::Network(Network::None),
            "--network" | "--net" => {
                self.not(&format!("{property} {value}"), line, "projects can only choose the network 'none'");
                return Ok(());
            }
            "--cap-add" => {
                self.add_capability(&property, line, &value);
                return Ok(());
            }
            "--cap-drop" => {
                let upper = value.to_ascii_uppercase();
                let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
                self.capabilities.retain(|known| name != "ALL" && known != name);
                self.capabilities_at = Some(line);
                return Ok(());
            }
            "--security-opt" => return self.security_option(&property, node, &value),
            "-l" | "--label" => {
                let why = "labels influence policies; set them with --label or in [workspace.labels]";
                self.not(&format!("{property} {value}"), line, why);
                return Ok(());
            }
            _ => {
                self.not(&property, line, "it matches no field of a workspace");
                return Ok(());
            }
        };
        self.field(node, edit)
    }
}
