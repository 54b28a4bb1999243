//! `wharf token`: the tokens for calling the API of the service over the network.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::output::{Column, ago, column, until};
use crate::cli::{Context, Failure};
use crate::config::Span;
use crate::store::{Role, Token};

/// Manage tokens for the API of the service.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Make a token and print it once
    Create(CreateArgs),
    /// List tokens, never their secrets
    Ls,
    /// Revoke a token; the service refuses it from then on
    Rm {
        /// Its name
        name: String,
    },
}

/// Arguments of `create`.
#[derive(Debug, clap::Args)]
pub(crate) struct CreateArgs {
    /// Its name, for later reference
    name: String,
    /// Its rights: viewer (reads), operator (also changes workspaces and runs commands), admin (everything)
    #[arg(long)]
    role: Role,
    /// How long it is valid, e.g. 30d [default: until it is revoked]
    #[arg(long, value_name = "TIME")]
    expires: Option<Span>,
    /// Restrict it to workspaces with this label; may be given again
    #[arg(long, value_name = "NAME=VALUE")]
    label: Vec<String>,
}

#[derive(Serialize)]
struct Created<'a> {
    #[serde(flatten)]
    about: &'a Token,
    token: &'a str,
}

/// Runs the command. It needs no engine and no service.
pub(crate) fn run(context: &Context, command: &Command) -> Result<u8, Failure> {
    let (store, out) = (context.app.store()?, &context.out);
    match command {
        Command::Create(args) => {
            let (labels, expires_at) = (args.labels()?, args.expires_at()?);
            let Some((about, token)) = store.create_token(&args.name, args.role, &labels, expires_at)? else {
                let text = format!("a token named '{}' already exists", args.name);
                return Err(Failure::new("exists", text, "choose another name, or revoke it with 'wharf token rm'", 1));
            };
            if out.json {
                out.value(&Created { about: &about, token: &token })?;
            } else {
                out.line(&token)?;
                out.notice("the token is not shown again");
            }
        }
        Command::Ls => {
            let tokens = store.tokens()?;
            if out.json {
                out.value(&tokens)?;
            } else {
                const COLUMNS: [Column; 6] = [
                    column("NAME").cut(12),
                    column("ROLE"),
                    column("LABELS").cut(12).optional(1),
                    column("CREATED").optional(4),
                    column("EXPIRES").optional(2),
                    column("LAST USED").optional(3),
                ];
                out.table(&COLUMNS, tokens.iter().map(row).collect())?;
            }
        }
        Command::Rm { name } => {
            if !store.remove_token(name)? {
                let text = format!("there is no token named '{name}'");
                return Err(Failure::new("token-not-found", text, "'wharf token ls' lists them", 5));
            }
            if !out.json {
                out.line(format!("{name} revoked"))?;
            }
        }
    }
    Ok(0)
}

fn row(token: &Token) -> Vec<String> {
    let labels: Vec<_> = token.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let expires = match token.expires_at {
        None => "never".to_owned(),
        Some(_) if token.is_expired(Timestamp::now()) => "expired".to_owned(),
        Some(end) => until(end),
    };
    let labels = if labels.is_empty() { "-".to_owned() } else { labels.join(", ") };
    vec![
        token.name.clone(),
        token.role.to_string(),
        labels,
        ago(Some(token.created_at)),
        expires,
        ago(token.last_used_at),
    ]
}

impl CreateArgs {
    fn labels(&self) -> Result<BTreeMap<String, String>, Failure> {
        let named = |c: char| c.is_ascii_alphanumeric() || ['-', '_', '.'].contains(&c);
        if self.name.is_empty() || self.name.len() > 64 || !self.name.chars().all(named) {
            return Err(usage("a token name has 1 to 64 letters, digits, '-', '_' and '.'".to_owned()));
        }
        let mut labels = BTreeMap::new();
        for text in &self.label {
            let wrong = || usage(format!("--label {text}: use NAME=VALUE, each name once"));
            let (name, value) = text.split_once('=').filter(|(name, _)| !name.is_empty()).ok_or_else(wrong)?;
            if labels.insert(name.to_owned(), value.to_owned()).is_some() {
                return Err(wrong());
            }
        }
        if self.role == Role::Admin && !labels.is_empty() {
            return Err(usage("an admin sees everything: omit --label, or choose another role".to_owned()));
        }
        Ok(labels)
    }

    fn expires_at(&self) -> Result<Option<Timestamp>, Failure> {
        let Some(span) = self.expires else { return Ok(None) };
        let end = Timestamp::now().checked_add(span.0).ok().filter(|_| !span.0.is_zero());
        end.map(Some).ok_or_else(|| usage(format!("--expires {span}: the time is not in the future")))
    }
}

fn usage(text: String) -> Failure {
    Failure::new("usage", text, "see 'wharf token create --help'", 2)
}
