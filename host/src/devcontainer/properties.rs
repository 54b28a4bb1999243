//! Converts the properties of a file to requests.

use std::collections::BTreeSet;

use super::json::{Node, Value, Wrong};
use super::values::{self, MountWords};
use super::variables::Variables;
use super::{Devcontainer, NotHonoured, Surroundings, plain};
use crate::hooks::Adjustment;
use crate::workspace::{Mount, MountKind, notation};

/// Properties that have no effect here, each with the reason.
pub(super) const WITHOUT_EFFECT: [(&str, &str); 21] = [
    ("initializeCommand", "commands for the host are never run"),
    ("postAttachCommand", "no editor attaches to a workspace"),
    ("waitFor", "Wharf waits for every command"),
    ("features", "features are not installed; name or build an image that includes them"),
    ("overrideFeatureInstallOrder", "features are not installed"),
    ("customizations", "it is only for editors"),
    ("settings", "it is only for editors"),
    ("extensions", "it is only for editors"),
    ("devPort", "it is only for editors"),
    ("portsAttributes", "it is only for editors"),
    ("otherPortsAttributes", "it is only for editors"),
    ("dockerComposeFile", "compose files are not read; use sidecars for extra containers"),
    ("service", "compose files are not read"),
    ("runServices", "compose files are not read"),
    ("remoteEnv", "all variables belong to the container; use containerEnv"),
    ("userEnvProbe", "commands get the environment of the container, not that of a shell"),
    ("updateRemoteUserUID", "the users of the image stay unchanged"),
    ("secrets", "secrets come from the caller; use 'wharf up --secret'"),
    ("gpu", "workspaces get no host devices"),
    ("cacheFrom", "images of a registry are not used as build cache"),
    ("options", "options of the builder are ignored"),
];

/// Maximum length of the list of ignored properties, which is stored with the workspace.
const MOST_LISTED: usize = 100;

/// Variables reserved for the host.
const HOST_ENV: [&str; 3] = ["WORKSPACE_ID", "WORKSPACE_NAME", "WHARF_MANAGED"];

/// Reads the root object of a file.
pub(super) fn read(root: &Node, around: &Surroundings<'_>) -> Result<Devcontainer, Wrong> {
    let members = object(root, "the file")?;
    let mut reader = Reader {
        variables: Variables { around, container_folder: around.working_dir.to_owned() },
        capabilities: around.capabilities.clone(),
        capabilities_at: None,
        out: Devcontainer::default(),
    };
    reader.folder(members)?;
    for (name, node) in members {
        reader.property(name, node)?;
    }
    if let Some(node) = member(members, "hostRequirements") {
        reader.requirements(object(node, "hostRequirements")?)?;
    }
    reader.user(members)?;
    reader.image(members)?;
    reader.commands(members)?;
    if let Some(line) = reader.capabilities_at.filter(|_| reader.capabilities != *around.capabilities) {
        reader.out.fields.push((Adjustment::Capabilities(reader.capabilities.clone()), line));
    }
    let not = &mut reader.out.not_honoured;
    not.sort_by_key(|not| not.line);
    let more = not.len().saturating_sub(MOST_LISTED);
    not.truncate(MOST_LISTED);
    if let (true, Some(last)) = (more > 0, not.last().map(|not| not.line)) {
        not.push(NotHonoured { property: "...".into(), line: last, why: format!("{more} more are not listed") });
    }
    Ok(reader.out)
}

pub(super) struct Reader<'a> {
    pub(super) variables: Variables<'a>,
    pub(super) capabilities: BTreeSet<String>,
    /// The line that last changed them.
    pub(super) capabilities_at: Option<usize>,
    pub(super) out: Devcontainer,
}

pub(super) fn wrong(node: &Node, what: impl Into<String>) -> Wrong {
    Wrong { offset: node.offset, what: what.into() }
}

pub(super) fn object<'n>(node: &'n Node, what: &str) -> Result<&'n [(String, Node)], Wrong> {
    match &node.value {
        Value::Object(members) => Ok(members),
        _ => Err(wrong(node, format!("{what} must be an object"))),
    }
}

fn list<'n>(node: &'n Node, what: &str) -> Result<&'n [Node], Wrong> {
    match &node.value {
        Value::List(items) => Ok(items),
        _ => Err(wrong(node, format!("{what} must be a list"))),
    }
}

pub(super) fn text<'n>(node: &'n Node, what: &str) -> Result<&'n str, Wrong> {
    match &node.value {
        Value::Text(text) => Ok(text),
        _ => Err(wrong(node, format!("{what} must be a string"))),
    }
}

fn boolean(node: &Node, what: &str) -> Result<bool, Wrong> {
    match &node.value {
        Value::Bool(value) => Ok(*value),
        _ => Err(wrong(node, format!("{what} must be true or false"))),
    }
}

pub(super) fn member<'n>(members: &'n [(String, Node)], name: &str) -> Option<&'n Node> {
    members.iter().find(|(known, _)| known == name).map(|(_, node)| node)
}

impl Reader<'_> {
    pub(super) fn not(&mut self, property: &str, line: usize, why: impl Into<String>) {
        let (property, why) = (plain(property), plain(&why.into()));
        self.out.not_honoured.push(NotHonoured { property, line, why });
    }

    /// Expands the variables of a text and lists those that could not be expanded.
    pub(super) fn fill(&mut self, property: &str, line: usize, text: &str, keeps_secrets: bool) -> String {
        let (filled, refused) = self.variables.fill(text, keeps_secrets);
        for why in refused {
            self.not(property, line, format!("a variable resolves to its default or nothing: {why}"));
        }
        filled
    }

    /// Returns the text of a property with its variables expanded.
    pub(super) fn filled(&mut self, property: &str, node: &Node) -> Result<String, Wrong> {
        let given = text(node, property)?.to_owned();
        Ok(self.fill(property, node.line, &given, false))
    }

    /// Stores a field, if its value is valid in itself.
    pub(super) fn field(&mut self, node: &Node, edit: Adjustment) -> Result<(), Wrong> {
        edit.check().map_err(|what| wrong(node, what))?;
        // An explicit port of the host wins over a free one, wherever it stands.
        if let Adjustment::Port(key, Some(new)) = &edit {
            let same = |known: &Adjustment, chosen: bool| matches!(known, Adjustment::Port(other, Some(old)) if other == key && old.port.is_some() == chosen);
            if new.port.is_none() && self.out.fields.iter().any(|(known, _)| same(known, true)) {
                return Ok(());
            }
            self.out.fields.retain(|(known, _)| !same(known, false));
        }
        self.out.fields.push((edit, node.line));
        Ok(())
    }

    /// Reads the project's mount point and the working directory first, because all other properties may refer to
    /// them.
    fn folder(&mut self, members: &[(String, Node)]) -> Result<(), Wrong> {
        let (folder, mount) = (member(members, "workspaceFolder"), member(members, "workspaceMount"));
        if let Some(by) = &self.variables.around.working_dir_fixed {
            let why = format!("{by} sets workspace.working_dir");
            for (name, node) in [("workspaceFolder", folder), ("workspaceMount", mount)] {
                if let Some(node) = node {
                    self.not(name, node.line, why.clone());
                }
            }
            return Ok(());
        }
        let usual = self.variables.around.working_dir.to_owned();
        if let Some(node) = mount {
            let given = text(node, "workspaceMount")?.to_owned();
            if !given.is_empty() {
                let words = self.mount_words("workspaceMount", node, &given)?;
                let edit = words.adjustment().map_err(|what| wrong(node, what))?;
                if let Adjustment::Mount(target, _) = &edit {
                    self.variables.container_folder.clone_from(target);
                }
                self.field(node, edit)?;
            }
            if self.variables.container_folder != usual || self.out.fields.is_empty() {
                self.field(node, Adjustment::Mount(usual.clone(), None))?;
            }
        }
        if let Some(node) = folder {
            let given = self.filled("workspaceFolder", node)?;
            self.variables.container_folder =
                if given.len() > 1 { given.trim_end_matches('/').to_owned() } else { given };
        }
        let place = self.variables.container_folder.clone();
        let Some(node) = folder.or(mount).filter(|_| place != usual) else { return Ok(()) };
        self.field(node, Adjustment::WorkingDir(place.clone()))?;
        if mount.is_none() {
            let source = self.variables.around.folder.to_owned();
            self.field(node, Adjustment::Mount(usual, None))?;
            let project = Mount { kind: MountKind::Bind, source, read_only: false };
            self.field(node, Adjustment::Mount(place, Some(project)))?;
        }
        Ok(())
    }

    // Long because it is the table of properties.
    fn property(&mut self, name: &str, node: &Node) -> Result<(), Wrong> {
        match name {
            // Handled elsewhere, or without meaning for a workspace.
            "name"
            | "$schema"
            | "workspaceFolder"
            | "workspaceMount"
            | "image"
            | "build"
            | "dockerFile"
            | "context"
            | "containerUser"
            | "remoteUser"
            | "onCreateCommand"
            | "updateContentCommand"
            | "postCreateCommand"
            | "postStartCommand"
            // After all others: a limit of `runArgs` wins.
            | "hostRequirements" => Ok(()),
            "containerEnv" => {
                for (variable, node) in object(node, name)? {
                    let property = format!("containerEnv.{variable}");
                    let given = text(node, &property)?.to_owned();
                    self.env(node, &property, variable, &given)?;
                }
                Ok(())
            }
            "mounts" => {
                list(node, name)?.iter().try_for_each(|node| self.item(name, node, |reader| reader.mount(node)))
            }
            "forwardPorts" => list(node, name)?.iter().try_for_each(|node| self.forward(node)),
            "appPort" => match &node.value {
                Value::List(items) => items.iter().try_for_each(|node| self.app_port(node)),
                _ => self.app_port(node),
            },
            "overrideCommand" => {
                if !boolean(node, name)? {
                    self.field(node, Adjustment::Command(Vec::new()))?;
                }
                Ok(())
            }
            "init" => {
                if !boolean(node, name)? {
                    self.not(name, node.line, "an init process always runs where the engine has one");
                }
                Ok(())
            }
            "privileged" => {
                if boolean(node, name)? {
                    self.not(name, node.line, "a workspace is never privileged");
                }
                Ok(())
            }
            "capAdd" => {
                for node in list(node, name)? {
                    let capability = text(node, name)?.to_owned();
                    self.add_capability("capAdd", node.line, &capability);
                }
                Ok(())
            }
            "securityOpt" => {
                for node in list(node, name)? {
                    let option = text(node, name)?.to_owned();
                    self.security_option("securityOpt", node, &option)?;
                }
                Ok(())
            }
            "runArgs" => {
                let mut words = Vec::new();
                for node in list(node, name)? {
                    let given = text(node, "an argument of runArgs")?;
                    words.push((given.to_owned(), node));
                }
                self.run_args(&words)
            }
            "shutdownAction" => {
                if text(node, name)? != "none" {
                    self.not(name, node.line, "a workspace runs until it is stopped");
                }
                Ok(())
            }
            other => {
                let known = WITHOUT_EFFECT.iter().find(|(name, _)| *name == other);
                self.not(other, node.line, known.map_or("it is not known", |(_, why)| *why));
                Ok(())
            }
        }
    }

    pub(super) fn env(&mut self, node: &Node, property: &str, name: &str, value: &str) -> Result<(), Wrong> {
        if HOST_ENV.contains(&name) {
            self.not(property, node.line, "the host sets it");
            return Ok(());
        }
        let secret = self.variables.around.secrets.contains(name);
        let value = self.fill(property, node.line, value, secret);
        self.field(node, Adjustment::Env(name.to_owned(), Some(value)))
    }

    /// Reads `type=bind,source=/a,target=/b,readonly`: split first, expanded afterwards. Options without effect are
    /// listed.
    pub(super) fn mount_words(&mut self, property: &str, node: &Node, given: &str) -> Result<MountWords, Wrong> {
        let mut words = MountWords::default();
        for part in values::split(given, ',').map_err(|what| wrong(node, what))? {
            let part = part.trim();
            if !part.is_empty() {
                let (key, value) = part.split_once('=').unwrap_or((part, "true"));
                let value = self.fill(property, node.line, value, false);
                words.set(key, &value).map_err(|what| wrong(node, what))?;
            }
        }
        self.list_options(property, node, &mut words);
        Ok(words)
    }

    /// Reads `source:target[:options]`, as `docker run -v`: split first, expanded afterwards.
    pub(super) fn volume_words(&mut self, property: &str, node: &Node, given: &str) -> Result<MountWords, Wrong> {
        let parts = values::split(given, ':').map_err(|what| wrong(node, what))?;
        let ([source, target], options) = match parts.as_slice() {
            [source, target] => ([source, target], ""),
            [source, target, options] => ([source, target], options.as_str()),
            _ => return Err(wrong(node, notation::not_a_mount(given))),
        };
        let source = self.fill(property, node.line, source, false);
        let target = self.fill(property, node.line, target, false);
        let kind = if source.starts_with('/') { "bind" } else { "volume" };
        let mut words = MountWords { kind: Some(kind.into()), ..MountWords::default() };
        (words.source, words.target) = (Some(source), Some(target));
        for option in options.split(',').filter(|option| !option.is_empty()) {
            match option {
                "ro" => words.read_only = true,
                "rw" | "cached" | "delegated" | "consistent" => {}
                other => words.ignored.push(other.to_owned()),
            }
        }
        self.list_options(property, node, &mut words);
        Ok(words)
    }

    fn list_options(&mut self, property: &str, node: &Node, words: &mut MountWords) {
        for option in std::mem::take(&mut words.ignored) {
            self.not(&format!("{property} {option}"), node.line, "this option is unknown");
        }
    }

    /// Reads one item. An item that is invalid because a variable could not be expanded is listed with its reason, and
    /// the rest of the file is used.
    pub(super) fn item(
        &mut self,
        property: &str,
        node: &Node,
        read: impl FnOnce(&mut Self) -> Result<(), Wrong>,
    ) -> Result<(), Wrong> {
        let (fields, listed) = (self.out.fields.len(), self.out.not_honoured.len());
        match read(self) {
            Err(error) if self.out.not_honoured.len() > listed => {
                self.out.fields.truncate(fields);
                self.not(property, node.line, format!("it is left out: {}", error.what));
                Ok(())
            }
            other => other,
        }
    }

    fn mount(&mut self, node: &Node) -> Result<(), Wrong> {
        let mut words = MountWords::default();
        match &node.value {
            Value::Object(members) => {
                for (key, node) in members {
                    match &node.value {
                        Value::Bool(value) => words.set(key, &value.to_string()),
                        _ => {
                            let value = self.filled("mounts", node)?;
                            words.set(key, &value)
                        }
                    }
                    .map_err(|what| wrong(node, what))?;
                }
            }
            _ => {
                let given = text(node, "mounts")?.to_owned();
                words = self.mount_words("mounts", node, &given)?;
            }
        }
        self.list_options("mounts", node, &mut words);
        let edit = words.adjustment().map_err(|what| wrong(node, what))?;
        self.field(node, edit)
    }

    fn forward(&mut self, node: &Node) -> Result<(), Wrong> {
        let port = match &node.value {
            Value::Number(number) => number.as_u64(),
            Value::Text(text) => match text.rsplit_once(':') {
                Some(("localhost" | "127.0.0.1", port)) => port.parse().ok(),
                Some(_) => {
                    self.not(&format!("forwardPorts {text}"), node.line, "it is the port of another container");
                    return Ok(());
                }
                None => text.parse().ok(),
            },
            _ => None,
        };
        let port = port.ok_or_else(|| wrong(node, "forwardPorts takes ports such as 3000"))?;
        let edit = values::forwarded(port).map_err(|what| wrong(node, what))?;
        self.field(node, edit)
    }

    fn app_port(&mut self, node: &Node) -> Result<(), Wrong> {
        let given = match &node.value {
            Value::Number(number) => number.to_string(),
            _ => self.filled("appPort", node)?,
        };
        self.publish(node, &given)
    }

    pub(super) fn publish(&mut self, node: &Node, given: &str) -> Result<(), Wrong> {
        let edits = values::ports(given).map_err(|what| wrong(node, what))?;
        edits.into_iter().try_for_each(|edit| self.field(node, edit))
    }

    pub(super) fn add_capability(&mut self, property: &str, line: usize, given: &str) {
        let upper = given.to_ascii_uppercase();
        let name = upper.strip_prefix("CAP_").unwrap_or(&upper);
        if self.variables.around.allowed_capabilities.contains(name) {
            self.capabilities.insert(name.to_owned());
            self.capabilities_at = Some(line);
        } else {
            self.not(&format!("{property} {given}"), line, "it is not in allow.capabilities");
        }
    }

    pub(super) fn security_option(&mut self, property: &str, node: &Node, option: &str) -> Result<(), Wrong> {
        let (name, value) = option.split_once(['=', ':']).unwrap_or((option, "true"));
        let loosened = match (name, value) {
            ("no-new-privileges", "true") => return Ok(()),
            ("seccomp", "unconfined") => Adjustment::Seccomp("unconfined".into()),
            ("apparmor", "unconfined") => Adjustment::Apparmor(Some("unconfined".into())),
            ("label", "disable") => Adjustment::Selinux(Some("disable".into())),
            _ => {
                self.not(&format!("{property} {option}"), node.line, "projects cannot choose security profiles");
                return Ok(());
            }
        };
        if self.variables.around.unconfined {
            return self.field(node, loosened);
        }
        self.not(&format!("{property} {option}"), node.line, "turning it off needs allow.unconfined = true");
        Ok(())
    }

    /// Raises the limits of the workspace to the requirements, up to the machine and the limits of the configuration.
    /// Requirements that are not met in full are listed.
    fn requirements(&mut self, members: &[(String, Node)]) -> Result<(), Wrong> {
        let around = self.variables.around;
        for (name, node) in members {
            let property = format!("hostRequirements.{name}");
            match (name.as_str(), &node.value) {
                ("cpus", Value::Number(cpus)) => {
                    let wanted = cpus.as_f64().unwrap_or(f64::MAX);
                    let machine = if around.cpus == 0 { f64::MAX } else { f64::from(around.cpus) };
                    let most = machine.min(around.most_cpus);
                    if wanted > most {
                        let what = if machine <= around.most_cpus { "the machine has" } else { "limits.cpus is" };
                        self.not(&property, node.line, format!("{what} {most}, but {wanted} are required"));
                    }
                    let set = self.out.fields.iter().any(|(edit, _)| matches!(edit, Adjustment::Cpus(_)));
                    let cpus = wanted.min(most);
                    if cpus > around.usual_cpus && !set {
                        self.field(node, Adjustment::Cpus(cpus))?;
                    }
                }
                ("memory", Value::Text(text)) => {
                    let wanted = notation::size(text).map_err(|what| wrong(node, what))?;
                    let machine = if around.memory == 0 { u64::MAX } else { around.memory };
                    let most = machine.min(around.most_memory);
                    if wanted > most {
                        let what = if machine <= around.most_memory { "the machine has" } else { "limits.memory is" };
                        let most = bytesize::ByteSize(most);
                        self.not(&property, node.line, format!("{what} {most}, but {text} are required"));
                    }
                    let set = self.out.fields.iter().any(|(edit, _)| matches!(edit, Adjustment::Memory(_)));
                    let memory = wanted.min(most);
                    if memory > around.usual_memory && !set {
                        self.field(node, Adjustment::Memory(memory))?;
                    }
                }
                ("gpu", Value::Bool(false)) => {}
                ("gpu", Value::Text(text)) if text == "optional" => {}
                ("gpu", _) => self.not(&property, node.line, "workspaces get no host devices"),
                _ => self.not(&property, node.line, "it is not checked"),
            }
        }
        Ok(())
    }
}
