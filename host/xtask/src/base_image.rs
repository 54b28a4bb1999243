//! The image `wharf-base:local`, on which tests and quickstart run their workspaces. It is small, and built on this
//! machine when no registry answers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::command;
use crate::engine::Engine;

/// Its name.
pub const NAME: &str = "wharf-base:local";

/// The image of a registry from which it is made.
const UPSTREAM: (&str, &str) = ("busybox", "stable");

/// The time limit for a registry: the image has about 2 MB.
const PULL: Duration = Duration::from_secs(15);

/// The time limit of the engine for anything else.
const PATIENCE: Duration = Duration::from_secs(60);

/// The origin of the image.
#[derive(Debug, PartialEq)]
pub enum Origin {
    /// An earlier run made it.
    Present,
    /// From a registry.
    Pulled,
    /// From Debian's busybox.
    Built,
}

/// Ensures that the engine has the image.
///
/// # Errors
/// When neither a registry nor Debian's packages are reachable; the text contains a remedy.
pub fn ready(engine: &Engine) -> Result<Origin> {
    if engine.call("GET", &format!("/images/{NAME}/json"), &[], PATIENCE)?.status == 200 {
        return Ok(Origin::Present);
    }
    match pull(engine) {
        Ok(()) => Ok(Origin::Pulled),
        Err(no_registry) => match build(engine) {
            Ok(()) => Ok(Origin::Built),
            Err(no_build) => bail!(
                "cannot make the image {NAME}: no registry ({no_registry:#}), and no busybox of Debian's ({no_build:#}); \
                 make one of your own with `docker pull` or `docker load`, and `docker tag` it {NAME}"
            ),
        },
    }
}

fn pull(engine: &Engine) -> Result<()> {
    let (image, tag) = UPSTREAM;
    let answer = engine.call("POST", &format!("/images/create?fromImage={image}&tag={tag}"), &[], PULL)?;
    let text = String::from_utf8_lossy(&answer.body);
    if answer.status != 200 {
        bail!("{}", answer.message());
    }
    // A pull that fails half-way has started with status 200.
    if let Some(line) = text.lines().find(|line| line.contains("\"error\"")) {
        bail!("{line}");
    }
    let (repository, name) = NAME.split_once(':').unwrap_or((NAME, "latest"));
    let path = format!("/images/{image}:{tag}/tag?repo={repository}&tag={name}");
    let tagged = engine.call("POST", &path, &[], PATIENCE)?;
    if tagged.status != 201 {
        bail!("{}", tagged.message());
    }
    Ok(())
}

/// Makes the image from Debian's static busybox. Nothing is installed on this machine.
fn build(engine: &Engine) -> Result<()> {
    let folder = Temporary::new()?;
    let root = folder.0.join("root");
    let busybox = fetch_busybox(&folder.0)?;
    lay_out(&root, &busybox)?;
    let archive = folder.0.join("root.tar");
    // Files belong to root, whichever user runs this.
    let mut tar = Command::new("tar");
    tar.args(["--numeric-owner", "--owner=0", "--group=0", "-cf"]).arg(&archive).arg("-C").arg(&root).arg(".");
    command::output(&mut tar)?;
    let bytes = fs::read(&archive).with_context(|| format!("cannot read {}", archive.display()))?;
    let (repository, tag) = NAME.split_once(':').unwrap_or((NAME, "latest"));
    // CMD ["sh"], percent-encoded.
    let path = format!("/images/create?fromSrc=-&repo={repository}&tag={tag}&changes=CMD%20%5B%22sh%22%5D");
    let answer = engine.call("POST", &path, &bytes, PATIENCE)?;
    if answer.status != 200 || String::from_utf8_lossy(&answer.body).contains("\"error\"") {
        bail!("the engine does not import it: {}", answer.message());
    }
    // Podman ignores the tag.
    if engine.call("GET", &format!("/images/{NAME}/json"), &[], PATIENCE)?.status == 404 {
        let path = format!("/images/{repository}:latest/tag?repo={repository}&tag={tag}");
        let tagged = engine.call("POST", &path, &[], PATIENCE)?;
        if tagged.status != 201 {
            bail!("the engine does not tag it: {}", tagged.message());
        }
    }
    Ok(())
}

/// Downloads and unpacks the package; returns the program's path.
fn fetch_busybox(folder: &Path) -> Result<PathBuf> {
    let package = "busybox-static";
    let download = || {
        let mut apt = Command::new("apt-get");
        // As root, apt would drop its privileges and then warn that it can't write here.
        apt.current_dir(folder).args(["download", "-qq", "-o", "APT::Sandbox::User=root", package]);
        command::output(&mut apt)
    };
    if download().is_err() {
        // The package lists may be missing, or name a version that the archive no longer has.
        command::output(Command::new("apt-get").args(["update", "-qq"]))?;
        download()?;
    }
    let entries = fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
    let mut files = entries.flatten().map(|entry| entry.path());
    let deb = files.find(|path| path.extension().is_some_and(|end| end == "deb")).context("apt fetched nothing")?;
    let unpacked = folder.join("package");
    command::output(Command::new("dpkg-deb").arg("-x").arg(deb).arg(&unpacked))?;
    let program = ["bin/busybox", "usr/bin/busybox"].map(|path| unpacked.join(path)).into_iter().find(|p| p.is_file());
    program.with_context(|| format!("{package} has no busybox in it"))
}

/// Lays out the root folder: busybox with a link per applet, a few folders, root and a user 1000.
fn lay_out(root: &Path, busybox: &Path) -> Result<()> {
    let folder = |path: &str, mode: u32| -> Result<()> {
        let path = root.join(path);
        fs::create_dir_all(&path)?;
        Ok(fs::set_permissions(&path, fs::Permissions::from_mode(mode))?)
    };
    for path in ["", "bin", "etc", "home", "usr", "usr/bin", "usr/sbin", "sbin", "var", "workspace"] {
        folder(path, 0o755)?;
    }
    folder("root", 0o700)?;
    folder("tmp", 0o1777)?;
    folder("home/user", 0o755)?;
    fs::copy(busybox, root.join("bin/busybox")).context("cannot copy busybox")?;
    let applets = command::output(Command::new(busybox).arg("--list"))?;
    for applet in applets.lines().filter(|applet| !applet.is_empty() && *applet != "busybox" && !applet.contains('/')) {
        symlink("busybox", root.join("bin").join(applet)).with_context(|| format!("cannot link {applet}"))?;
    }
    // Most scripts begin with /usr/bin/env.
    symlink("../../bin/busybox", root.join("usr/bin/env")).context("cannot link env")?;
    fs::write(root.join("etc/passwd"), "root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000:user:/home/user:/bin/sh\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\nuser:x:1000:\n")?;
    Ok(())
}

/// A folder that is removed when dropped.
struct Temporary(PathBuf);

impl Temporary {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("wharf-base-{}", std::process::id()));
        // An earlier process with the same ID may have left it.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))?;
        Ok(Self(path))
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}
