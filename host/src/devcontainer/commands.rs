//! The commands of a file, and the user that runs them.

use super::json::{Node, Value, Wrong};
use super::properties::{Reader, member, wrong};
use super::{Command, plain};
use crate::hooks::Adjustment;

impl Reader<'_> {
    /// Sets the workspace's only user. If the image's own command runs, that is the user it needs (`containerUser`).
    pub(super) fn user(&mut self, members: &[(String, Node)]) -> Result<(), Wrong> {
        let (container, remote) = (member(members, "containerUser"), member(members, "remoteUser"));
        let own_command = member(members, "overrideCommand").is_some_and(|node| node.value == Value::Bool(false));
        let name = |reader: &mut Self, node: Option<&Node>, what: &str| match node {
            Some(node) => reader.filled(what, node).map(|user| Some(user).filter(|user| !user.is_empty())),
            None => Ok(None),
        };
        let container_name = name(self, container, "containerUser")?;
        let remote_name = name(self, remote, "remoteUser")?;
        let chosen = if own_command {
            self.out.commands.user.clone_from(&remote_name);
            container.zip(container_name)
        } else {
            if let (Some(node), Some(user), Some(remote)) = (container, &container_name, &remote_name)
                && user != remote
            {
                self.not("containerUser", node.line, format!("the workspace runs as remoteUser, {remote}"));
            }
            remote.zip(remote_name).or(container.zip(container_name))
        };
        if let Some((node, user)) = chosen {
            self.field(node, Adjustment::User(Some(user)))?;
        }
        Ok(())
    }

    pub(super) fn commands(&mut self, members: &[(String, Node)]) -> Result<(), Wrong> {
        for property in ["onCreateCommand", "updateContentCommand", "postCreateCommand", "postStartCommand"] {
            let Some(node) = member(members, property) else { continue };
            let mut found = Vec::new();
            match &node.value {
                Value::Object(members) => {
                    for (name, node) in members {
                        found.extend(self.command(&plain(&format!("{property}.{name}")), node)?);
                    }
                }
                _ => found.extend(self.command(property, node)?),
            }
            let commands = &mut self.out.commands;
            if property == "postStartCommand" { &mut commands.each_start } else { &mut commands.once }.extend(found);
        }
        Ok(())
    }

    /// Parses a command: a text runs in a shell, a list does not. An empty one is no command.
    fn command(&mut self, property: &str, node: &Node) -> Result<Option<Command>, Wrong> {
        let words = match &node.value {
            Value::List(items) => {
                let words: Result<Vec<_>, _> = items.iter().map(|node| self.filled(property, node)).collect();
                words?
            }
            Value::Text(line) if line.trim().is_empty() => Vec::new(),
            Value::Text(_) => vec!["/bin/sh".to_owned(), "-c".to_owned(), self.filled(property, node)?],
            _ => return Err(wrong(node, format!("{property} must be a string, a list, or an object of them"))),
        };
        Adjustment::Command(words.clone()).check().map_err(|what| wrong(node, what))?;
        Ok((!words.is_empty()).then(|| Command { property: property.to_owned(), words }))
    }
}
