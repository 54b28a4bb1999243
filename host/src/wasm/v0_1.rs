//! `wharf:policy@0.1`: the generated bindings and ALL conversions for this version. No generated type leaves this
//! module.

use std::collections::BTreeMap;

use wasmtime::Store;
use wasmtime::component::{Instance, InstancePre};

use self::bindings::exports::wharf::policy as exports;
use self::bindings::wharf::policy::types as wit;
use super::limits::State;
use crate::hooks::{
    Action, Adjustment, Caller, CallerRole, CandidateKind, Denial, Door, EventKind, Facts, Hook, HookRequest,
    ImageConfig, Subject, SweepChoice, SweepVerdict, Verdict,
};
use crate::workspace::{
    ContainerSpec, HealthCheck, HostPort, ImageChoice, Mount, MountKind, Network, PullPolicy, Restart,
    State as WorkspaceState, Tmpfs, Ulimit,
};

pub(super) use bindings::wharf::policy::{facts, host};

#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod bindings {
    // One world with every export provides the bindings of each interface. A component need only export some of them,
    // because each is looked up separately (see `Exports`).
    wasmtime::component::bindgen!({
        path: "wit/v0.1",
        inline: "
            package wharf:bindings;
            world every {
                import wharf:policy/host@0.1.0;
                import wharf:policy/facts@0.1.0;
                export wharf:policy/settings@0.1.0;
                export wharf:policy/image-selection@0.1.0;
                export wharf:policy/security-profile@0.1.0;
                export wharf:policy/pre-create@0.1.0;
                export wharf:policy/post-start@0.1.0;
                export wharf:policy/pre-exec@0.1.0;
                export wharf:policy/pre-stop@0.1.0;
                export wharf:policy/event@0.1.0;
                export wharf:policy/cleanup@0.1.0;
            }
        ",
        world: "wharf:bindings/every",
        imports: { default: trappable },
    });
}

/// Returns the hook whose interface has this name.
pub(super) fn hook_of(interface: &str) -> Option<Hook> {
    match interface {
        "image-selection" => Some(Hook::SelectImage),
        other => other.parse().ok().filter(|hook| *hook != Hook::SelectImage),
    }
}

/// The locations of a component's exports, looked up once.
pub(super) struct Exports {
    settings: exports::settings::GuestIndices,
    image: Option<exports::image_selection::GuestIndices>,
    security: Option<exports::security_profile::GuestIndices>,
    pre_create: Option<exports::pre_create::GuestIndices>,
    post_start: Option<exports::post_start::GuestIndices>,
    pre_exec: Option<exports::pre_exec::GuestIndices>,
    pre_stop: Option<exports::pre_stop::GuestIndices>,
    event: Option<exports::event::GuestIndices>,
    cleanup: Option<exports::cleanup::GuestIndices>,
}

type Called<T> = wasmtime::Result<T>;

impl Exports {
    /// Looks up `settings` and the interfaces of these hooks, and checks their types.
    pub(super) fn read(pre: &InstancePre<State>, hooks: &[Hook]) -> Result<Self, String> {
        fn find<T>(hooks: &[Hook], hook: Hook, new: impl FnOnce() -> wasmtime::Result<T>) -> Result<Option<T>, String> {
            if !hooks.contains(&hook) {
                return Ok(None);
            }
            new().map(Some).map_err(|error| {
                format!("its interface for {hook} does not match wharf:policy@{}: {error:#}", super::WIT_VERSION)
            })
        }
        let settings = exports::settings::GuestIndices::new(pre)
            .map_err(|error| format!("does not export wharf:policy/settings: {error:#}"))?;
        Ok(Self {
            settings,
            image: find(hooks, Hook::SelectImage, || exports::image_selection::GuestIndices::new(pre))?,
            security: find(hooks, Hook::SecurityProfile, || exports::security_profile::GuestIndices::new(pre))?,
            pre_create: find(hooks, Hook::PreCreate, || exports::pre_create::GuestIndices::new(pre))?,
            post_start: find(hooks, Hook::PostStart, || exports::post_start::GuestIndices::new(pre))?,
            pre_exec: find(hooks, Hook::PreExec, || exports::pre_exec::GuestIndices::new(pre))?,
            pre_stop: find(hooks, Hook::PreStop, || exports::pre_stop::GuestIndices::new(pre))?,
            event: find(hooks, Hook::Event, || exports::event::GuestIndices::new(pre))?,
            cleanup: find(hooks, Hook::Cleanup, || exports::cleanup::GuestIndices::new(pre))?,
        })
    }

    /// Checks that `settings` has the types of the contract. The error names the interface and gives the reason.
    pub(super) fn fit_settings(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> Result<(), (String, wasmtime::Error)> {
        self.settings.load(store, instance).map(drop).map_err(|why| ("settings".into(), why))
    }

    /// Does the same for the interfaces of its hooks.
    pub(super) fn fit_hooks(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
    ) -> Result<(), (String, wasmtime::Error)> {
        macro_rules! fit {
            ($($indices:ident: $interface:literal),*) => {$(
                if let Some(indices) = &self.$indices {
                    indices.load(&mut *store, instance).map_err(|why| ($interface.to_owned(), why))?;
                }
            )*};
        }
        fit!(image: "image-selection", security: "security-profile", pre_create: "pre-create", post_start: "post-start",
             pre_exec: "pre-exec", pre_stop: "pre-stop", event: "event", cleanup: "cleanup");
        Ok(())
    }

    /// Lets the plugin check its settings.
    pub(super) fn check(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
        settings: &wit::Json,
    ) -> Called<Result<(), crate::hooks::PolicyError>> {
        let guest = self.settings.load(&mut *store, instance)?;
        let refused = |text: String| {
            crate::hooks::PolicyError::new("settings", format!("its settings are invalid: {}", text.replace('\n', " ")))
        };
        Ok(guest.call_check(store, settings)?.map_err(refused))
    }

    /// Returns all files that the plugin wants to read, for any of its hooks.
    pub(super) fn wanted_files(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
        settings: &wit::Json,
    ) -> Called<Vec<String>> {
        let mut files = Vec::new();
        if let Some(indices) = &self.image {
            files.extend(indices.load(&mut *store, instance)?.call_wanted_files(&mut *store, settings)?);
        }
        if let Some(indices) = &self.pre_create {
            files.extend(indices.load(&mut *store, instance)?.call_wanted_files(&mut *store, settings)?);
        }
        if let Some(indices) = &self.post_start {
            files.extend(indices.load(&mut *store, instance)?.call_wanted_files(&mut *store, settings)?);
        }
        Ok(files)
    }

    /// Calls the function of the request's hook.
    // Long because every hook has its arm, with the conversion of its input and its answer.
    pub(super) fn evaluate(
        &self,
        store: &mut Store<State>,
        instance: &Instance,
        settings: &wit::Json,
        request: &HookRequest,
    ) -> Called<Result<Verdict, String>> {
        let lacking = || wasmtime::Error::msg(format!("the plugin does not export {}", request.hook));
        let (facts, now_ms) = (request.facts.as_ref(), request.now_ms);
        let (workspace, project, engine) = (workspace(facts), || project(facts), engine(facts));
        match &request.subject {
            Subject::Image { requested } => {
                let guest = self.image.as_ref().ok_or_else(lacking)?.load(&mut *store, instance)?;
                let input = exports::image_selection::Input {
                    workspace,
                    project: project(),
                    engine,
                    local_images: facts.local_images.iter().map(local_image).collect(),
                    current: request.spec.image.as_ref().map(image),
                    requested: *requested,
                    now_ms,
                };
                use exports::image_selection::Verdict as V;
                Ok(guest.call_select_image(store, &input, settings)?.map(|verdict| match verdict {
                    V::Pass => Verdict::Pass,
                    V::Choose(choice) => Verdict::Adjust(vec![Adjustment::Image(ImageChoice {
                        reference: choice.reference,
                        pull: match choice.pull {
                            wit::PullPolicy::Missing => PullPolicy::Missing,
                            wit::PullPolicy::Always => PullPolicy::Always,
                            wit::PullPolicy::Never => PullPolicy::Never,
                        },
                        reason: choice.reason,
                    })]),
                    V::Deny(why) => deny(why),
                }))
            }
            Subject::Container if request.hook == Hook::SecurityProfile => {
                let guest = self.security.as_ref().ok_or_else(lacking)?.load(&mut *store, instance)?;
                let input = exports::security_profile::Input {
                    workspace,
                    engine,
                    image: request.spec.image.as_ref().map(image),
                    current: security(&request.spec),
                    pids: request.spec.resources.pids,
                    user: request.spec.user.clone(),
                    tmpfs: tmpfs(&request.spec),
                    now_ms,
                };
                use exports::security_profile::Verdict as V;
                Ok(guest.call_secure(store, &input, settings)?.map(|verdict| match verdict {
                    V::Pass => Verdict::Pass,
                    V::Adjust(list) => Verdict::Adjust(list.into_iter().map(security_adjustment).collect()),
                    V::Deny(why) => deny(why),
                }))
            }
            Subject::Container => {
                let guest = self.pre_create.as_ref().ok_or_else(lacking)?.load(&mut *store, instance)?;
                let input = exports::pre_create::Input {
                    workspace,
                    project: project(),
                    engine,
                    spec: spec(&request.spec),
                    now_ms,
                };
                use exports::pre_create::Verdict as V;
                Ok(guest.call_pre_create(store, &input, settings)?.map(|verdict| match verdict {
                    V::Pass => Verdict::Pass,
                    V::Adjust(list) => Verdict::Adjust(list.into_iter().map(adjustment).collect()),
                    V::Deny(why) => deny(why),
                }))
            }
            Subject::Start { first_start } => {
                let guest = self.post_start.as_ref().ok_or_else(lacking)?.load(&mut *store, instance)?;
                let image = request.spec.image.as_ref().map(|image| image.reference.clone()).unwrap_or_default();
                let input = exports::post_start::Input {
                    workspace,
                    project: project(),
                    image,
                    first_start: *first_start,
                    now_ms,
                };
                Ok(guest.call_post_start(store, &input, settings)?.map(|actions| act(actions, None)))
            }
            Subject::Exec(exec) => {
                let guest = self.pre_exec.as_ref().ok_or_else(lacking)?.load(&mut *store, instance)?;
                let input = exports::pre_exec::Input {
                    workspace,
                    command: exec.command.clone(),
                    env: pairs(&exec.env),
                    user: exec.user.clone(),
                    working_dir: exec.working_dir.clone(),
                    tty: exec.tty,
                    now_ms,
                };
                use exports::pre_exec::{Adjustment as A, Verdict as V};
                Ok(guest.call_pre_exec(store, &input, settings)?.map(|verdict| match verdict {
                    V::Pass => Verdict::Pass,
                    V::Adjust(list) => Verdict::Adjust(
                        list.into_iter()
                            .map(|adjustment| match adjustment {
                                A::SetEnv((name, value)) => Adjustment::Env(name, Some(value)),
                                A::SetUser(user) => Adjustment::User(Some(user)),
                                A::SetWorkingDir(dir) => Adjustment::WorkingDir(dir),
                            })
                            .collect(),
                    ),
                    V::Deny(why) => deny(why),
                }))
            }
            Subject::Stop { verb } => {
                let guest = self.pre_stop.as_ref().ok_or_else(lacking)?.load(&mut *store, instance)?;
                let input = exports::pre_stop::Input { workspace, verb: verb.clone(), now_ms };
                Ok(guest.call_pre_stop(store, &input, settings)?.map(|reply| act(reply.actions, reply.delay_ms)))
            }
            Subject::Event(event) => {
                let guest = self.event.as_ref().ok_or_else(lacking)?.load(&mut *store, instance)?;
                use exports::event::Kind;
                let input = exports::event::Input {
                    workspace,
                    kind: match event.kind {
                        EventKind::Started => Kind::Started,
                        EventKind::Exited => Kind::Exited,
                        EventKind::OutOfMemory => Kind::OutOfMemory,
                        EventKind::Healthy => Kind::Healthy,
                        EventKind::Unhealthy => Kind::Unhealthy,
                        EventKind::Threshold => Kind::Threshold,
                    },
                    exit_code: event.exit_code.and_then(|code| i32::try_from(code).ok()),
                    detail: event.detail.clone(),
                    now_ms,
                };
                Ok(guest.call_event(store, &input, settings)?.map(|actions| act(actions, None)))
            }
            Subject::Sweep(sweep) => {
                let guest = self.cleanup.as_ref().ok_or_else(lacking)?.load(&mut *store, instance)?;
                let input = exports::cleanup::Input {
                    candidates: sweep.candidates.iter().map(candidate).collect(),
                    disk_free: sweep.disk_free,
                    disk_total: sweep.disk_total,
                    now_ms,
                    local_minute: sweep.local_minute,
                    local_weekday: sweep.local_weekday,
                };
                use exports::cleanup::Choice;
                Ok(guest.call_cleanup(store, &input, settings)?.map(|verdicts| {
                    if verdicts.is_empty() {
                        return Verdict::Pass;
                    }
                    let each = verdicts.into_iter().map(|verdict| SweepVerdict {
                        id: verdict.id,
                        choice: match verdict.choice {
                            Choice::Keep => SweepChoice::Keep,
                            Choice::Stop => SweepChoice::Stop,
                            Choice::Remove => SweepChoice::Remove,
                        },
                        reason: verdict.reason,
                        by: String::new(),
                    });
                    Verdict::Sweep(each.collect())
                }))
            }
        }
    }
}

fn pairs(map: &BTreeMap<String, String>) -> Vec<(String, String)> {
    map.iter().map(|(name, value)| (name.clone(), value.clone())).collect()
}

/// Converts the caller for the interface `facts`.
pub(super) fn caller(caller: &Caller) -> facts::CallerInfo {
    facts::CallerInfo {
        name: caller.name.clone(),
        role: match caller.role {
            CallerRole::Viewer => facts::Role::Viewer,
            CallerRole::Operator => facts::Role::Operator,
            CallerRole::Admin => facts::Role::Admin,
        },
        door: match caller.door {
            Door::CommandLine => facts::Door::CommandLine,
            Door::Socket => facts::Door::Socket,
            Door::Network => facts::Door::Network,
            Door::Service => facts::Door::Service,
        },
    }
}

/// Converts the chosen image for the interface `facts`.
pub(super) fn image_config(image: &ImageConfig) -> facts::ImageInfo {
    facts::ImageInfo {
        id: image.id.clone(),
        entrypoint: image.entrypoint.clone(),
        command: image.command.clone(),
        user: image.user.clone(),
        working_dir: image.working_dir.clone(),
        volumes: image.volumes.clone(),
        health_check: image.health_check.as_ref().map(health_check),
        labels: pairs(&image.labels),
        platform: image.platform.clone(),
    }
}

fn health_check(check: &HealthCheck) -> wit::HealthCheck {
    wit::HealthCheck {
        command: check.command.clone(),
        interval_ms: check.interval_ms,
        timeout_ms: check.timeout_ms,
        start_period_ms: check.start_period_ms,
        retries: check.retries,
    }
}

fn workspace(facts: &Facts) -> wit::Workspace {
    let workspace = &facts.workspace;
    wit::Workspace {
        id: workspace.id.clone(),
        name: workspace.name.clone(),
        project: workspace.project.clone(),
        labels: pairs(&workspace.labels),
    }
}

fn project(facts: &Facts) -> wit::Project {
    let contents = facts.project.contents.iter().map(|(path, file)| wit::FileContent {
        path: path.clone(),
        text: file.text.clone(),
        truncated: file.truncated,
    });
    wit::Project { files: facts.project.files.clone(), contents: contents.collect() }
}

fn engine(facts: &Facts) -> wit::Engine {
    let engine = &facts.engine;
    wit::Engine {
        version: engine.version.clone(),
        api_version: engine.api_version.clone(),
        cgroup_version: engine.cgroup_version,
        cpus: engine.cpus,
        memory: engine.memory,
        security: engine.security.clone(),
    }
}

fn local_image(image: &crate::hooks::LocalImage) -> wit::LocalImage {
    wit::LocalImage { references: image.references.clone(), digests: image.digests.clone(), size: image.size }
}

fn image(choice: &ImageChoice) -> wit::ImageChoice {
    wit::ImageChoice {
        reference: choice.reference.clone(),
        pull: match choice.pull {
            PullPolicy::Missing => wit::PullPolicy::Missing,
            PullPolicy::Always => wit::PullPolicy::Always,
            PullPolicy::Never => wit::PullPolicy::Never,
        },
        reason: choice.reason.clone(),
    }
}

fn security(spec: &ContainerSpec) -> wit::Security {
    let security = &spec.security;
    wit::Security {
        capabilities: security.capabilities.iter().cloned().collect(),
        no_new_privileges: security.no_new_privileges,
        read_only_root: security.read_only_root,
        seccomp: security.seccomp.clone(),
        apparmor: security.apparmor.clone(),
        selinux: security.selinux.clone(),
        user_namespace: security.user_namespace.clone(),
    }
}

fn tmpfs(spec: &ContainerSpec) -> Vec<wit::TmpfsMount> {
    spec.tmpfs.iter().map(|(target, tmpfs)| wit::TmpfsMount { target: target.clone(), size: tmpfs.size }).collect()
}

fn spec(spec: &ContainerSpec) -> wit::ContainerSpec {
    let resources = &spec.resources;
    wit::ContainerSpec {
        image: spec.image.as_ref().map(image),
        command: spec.command.clone(),
        user: spec.user.clone(),
        working_dir: spec.working_dir.clone(),
        hostname: spec.hostname.clone(),
        env: pairs(&spec.env),
        labels: pairs(&spec.labels),
        mounts: spec
            .mounts
            .iter()
            .map(|(target, mount)| wit::Mount {
                kind: match mount.kind {
                    MountKind::Bind => wit::MountKind::Bind,
                    MountKind::Volume => wit::MountKind::Volume,
                },
                source: mount.source.clone(),
                target: target.clone(),
                read_only: mount.read_only,
            })
            .collect(),
        tmpfs: tmpfs(spec),
        ports: spec
            .ports
            .iter()
            .filter_map(|(key, host)| {
                let (port, protocol) = key.split_once('/')?;
                Some(wit::Port {
                    container_port: port.parse().ok()?,
                    protocol: if protocol == "udp" { wit::Protocol::Udp } else { wit::Protocol::Tcp },
                    host_address: host.address.clone(),
                    host_port: host.port,
                })
            })
            .collect(),
        network: match spec.network {
            Network::Shared => wit::Network::Shared,
            Network::Own => wit::Network::Own,
            Network::None => wit::Network::None,
            Network::Host => wit::Network::Host,
        },
        resources: wit::Resources {
            cpus: resources.cpus,
            memory: resources.memory,
            pids: resources.pids,
            shm_size: resources.shm_size,
            disk: resources.disk,
            ulimits: resources
                .ulimits
                .iter()
                .map(|(name, limit)| wit::Ulimit { name: name.clone(), soft: limit.soft, hard: limit.hard })
                .collect(),
        },
        security: security(spec),
        restart: match spec.restart {
            Restart::No => wit::RestartPolicy::No,
            Restart::OnFailure(times) => wit::RestartPolicy::OnFailure(times),
            Restart::Always => wit::RestartPolicy::Always,
            Restart::UnlessStopped => wit::RestartPolicy::UnlessStopped,
        },
        health_check: spec.health_check.as_ref().map(health_check),
        time_to_live_ms: spec.time_to_live_ms,
    }
}

fn candidate(candidate: &crate::hooks::Candidate) -> exports::cleanup::Candidate {
    use exports::cleanup::{Kind as K, State as S};
    exports::cleanup::Candidate {
        kind: match candidate.kind {
            CandidateKind::Workspace => K::Workspace,
            CandidateKind::Image => K::Image,
            CandidateKind::Volume => K::Volume,
            CandidateKind::Network => K::Network,
        },
        id: candidate.id.clone(),
        name: candidate.name.clone(),
        project: candidate.project.clone(),
        labels: pairs(&candidate.labels),
        state: candidate.state.map(|state| match state {
            WorkspaceState::Created => S::Created,
            WorkspaceState::Running => S::Running,
            WorkspaceState::Paused => S::Paused,
            WorkspaceState::Restarting => S::Restarting,
            WorkspaceState::Removing => S::Removing,
            WorkspaceState::Exited => S::Exited,
            // A workspace without a container has nothing left that could run.
            WorkspaceState::Dead | WorkspaceState::Missing => S::Dead,
        }),
        used: candidate.used,
        exit_code: candidate.exit_code.and_then(|code| i32::try_from(code).ok()),
        created_ms: candidate.created_ms,
        started_ms: candidate.started_ms,
        finished_ms: candidate.finished_ms,
        last_activity_ms: candidate.last_activity_ms,
        size: candidate.size,
    }
}

fn deny(why: wit::Denial) -> Verdict {
    Verdict::Deny(Denial { reason: why.reason, code: why.code })
}

fn act(actions: Vec<wit::Action>, delay_ms: Option<u32>) -> Verdict {
    if actions.is_empty() && delay_ms.is_none() {
        return Verdict::Pass;
    }
    let actions = actions.into_iter().map(|action| match action {
        wit::Action::Run(run) => Action::Run { command: run.command, timeout_ms: run.timeout_ms },
        wit::Action::Note(text) => Action::Note(text),
        wit::Action::Stop(why) => Action::Stop(why),
    });
    Verdict::Act { actions: actions.collect(), delay_ms }
}

fn mount_tmpfs(mount: wit::TmpfsMount) -> Adjustment {
    Adjustment::Tmpfs(mount.target, Some(Tmpfs { size: mount.size }))
}

fn security_adjustment(adjustment: exports::security_profile::Adjustment) -> Adjustment {
    use exports::security_profile::Adjustment as A;
    match adjustment {
        A::SetCapabilities(names) => Adjustment::Capabilities(names.into_iter().collect()),
        A::SetNoNewPrivileges(on) => Adjustment::NoNewPrivileges(on),
        A::SetReadOnlyRoot(on) => Adjustment::ReadOnlyRoot(on),
        A::SetSeccomp(name) => Adjustment::Seccomp(name),
        A::SetApparmor(name) => Adjustment::Apparmor(Some(name)),
        A::SetSelinux(label) => Adjustment::Selinux(Some(label)),
        A::SetUserNamespace(mode) => Adjustment::UserNamespace(Some(mode)),
        A::SetPids(most) => Adjustment::Pids(most),
        A::SetUser(user) => Adjustment::User(Some(user)),
        A::AddTmpfs(mount) => mount_tmpfs(mount),
    }
}

fn port_key(port: u16, protocol: wit::Protocol) -> String {
    match protocol {
        wit::Protocol::Tcp => format!("{port}/tcp"),
        wit::Protocol::Udp => format!("{port}/udp"),
    }
}

fn adjustment(adjustment: exports::pre_create::Adjustment) -> Adjustment {
    use exports::pre_create::Adjustment as A;
    match adjustment {
        A::SetEnv((name, value)) => Adjustment::Env(name, Some(value)),
        A::UnsetEnv(name) => Adjustment::Env(name, None),
        A::SetLabel((name, value)) => Adjustment::Label(name, Some(value)),
        A::UnsetLabel(name) => Adjustment::Label(name, None),
        A::AddMount(mount) => {
            let kind = match mount.kind {
                wit::MountKind::Bind => MountKind::Bind,
                wit::MountKind::Volume => MountKind::Volume,
            };
            Adjustment::Mount(mount.target, Some(Mount { kind, source: mount.source, read_only: mount.read_only }))
        }
        A::RemoveMount(target) => Adjustment::Mount(target, None),
        A::AddTmpfs(mount) => mount_tmpfs(mount),
        A::PublishPort(port) => Adjustment::Port(
            port_key(port.container_port, port.protocol),
            Some(HostPort { address: port.host_address, port: port.host_port }),
        ),
        A::UnpublishPort((port, protocol)) => Adjustment::Port(port_key(port, protocol), None),
        A::SetCpus(cpus) => Adjustment::Cpus(cpus),
        A::SetMemory(bytes) => Adjustment::Memory(bytes),
        A::SetPids(most) => Adjustment::Pids(most),
        A::SetShmSize(bytes) => Adjustment::ShmSize(Some(bytes)),
        A::SetDisk(bytes) => Adjustment::Disk(Some(bytes)),
        A::SetUlimit(limit) => Adjustment::Ulimit(limit.name, Some(Ulimit { soft: limit.soft, hard: limit.hard })),
        A::SetCommand(words) => Adjustment::Command(words),
        A::SetWorkingDir(dir) => Adjustment::WorkingDir(dir),
        A::SetHostname(name) => Adjustment::Hostname(name),
        A::SetUser(user) => Adjustment::User(Some(user)),
        A::SetNetwork(network) => Adjustment::Network(match network {
            wit::Network::Shared => Network::Shared,
            wit::Network::Own => Network::Own,
            wit::Network::None => Network::None,
            wit::Network::Host => Network::Host,
        }),
        A::SetRestart(policy) => Adjustment::Restart(match policy {
            wit::RestartPolicy::No => Restart::No,
            wit::RestartPolicy::OnFailure(times) => Restart::OnFailure(times),
            wit::RestartPolicy::Always => Restart::Always,
            wit::RestartPolicy::UnlessStopped => Restart::UnlessStopped,
        }),
        A::SetHealthCheck(check) => Adjustment::HealthCheck(Some(HealthCheck {
            command: check.command,
            interval_ms: check.interval_ms,
            timeout_ms: check.timeout_ms,
            start_period_ms: check.start_period_ms,
            retries: check.retries,
        })),
        A::SetTimeToLiveMs(ms) => Adjustment::TimeToLiveMs(Some(ms)),
    }
}
