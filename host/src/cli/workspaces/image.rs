//! `wharf image`: images that Wharf built, kept or pulled.

use std::collections::BTreeMap;
use std::path::PathBuf;

use crate::backend::PrunedImage;
use crate::cli::bars::Bars;
use crate::cli::output::{Column, Several, ago, bytes, column};
use crate::cli::{Context, Failure};
use crate::wire::ImageBuild;

/// Manage images that Wharf built, kept or pulled.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// List the images that Wharf built, kept as snapshots or pulled
    Ls,
    /// Fetch an image
    Pull {
        /// The reference, as for 'docker pull'
        reference: String,
    },
    /// Build an image from a folder
    Build(Args),
    /// Remove images that Wharf built, kept or pulled
    Rm {
        /// Names or ids
        #[arg(required = true)]
        images: Vec<String>,
    },
    /// Remove images that no container uses
    Prune,
}

/// Arguments of `build`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The folder [default: --project, or the current folder]
    path: Option<PathBuf>,
    /// Name of the image [default: a name derived from its inputs]
    #[arg(short, long, value_name = "REFERENCE")]
    tag: Option<String>,
    /// The Dockerfile's path in the folder [default: Dockerfile]
    #[arg(short, long, value_name = "PATH")]
    file: Option<String>,
    /// Build argument: NAME=VALUE
    #[arg(long, value_name = "NAME=VALUE")]
    build_arg: Vec<String>,
    /// The stage to build [default: the last one]
    #[arg(long, value_name = "STAGE")]
    target: Option<String>,
    /// File for 'RUN --mount=type=secret,id=NAME': NAME=FILE, or NAME to take it from a variable here
    #[arg(long, value_name = "NAME=FILE")]
    secret: Vec<String>,
    /// Build every step again
    #[arg(long)]
    no_cache: bool,
    /// Fetch newer base images
    #[arg(long)]
    pull: bool,
}

/// The arguments with which `up` builds its image.
#[derive(Debug, clap::Args)]
pub(crate) struct BuildArgs {
    /// Build the image from a folder
    #[arg(help_heading = "Image", long, value_name = "DIR", conflicts_with = "image")]
    build: Option<PathBuf>,
    /// The Dockerfile's path in the folder of --build [default: Dockerfile]
    #[arg(help_heading = "Image", long, value_name = "PATH", requires = "build")]
    dockerfile: Option<String>,
    /// Build argument: NAME=VALUE
    #[arg(help_heading = "Image", long, value_name = "NAME=VALUE", requires = "build")]
    build_arg: Vec<String>,
    /// The stage to build [default: the last one]
    #[arg(help_heading = "Image", long, value_name = "STAGE", requires = "build")]
    target: Option<String>,
    /// File for 'RUN --mount=type=secret,id=NAME': NAME=FILE, or NAME to take it from a variable here
    #[arg(long, value_name = "NAME=FILE", requires = "build")]
    build_secret: Vec<String>,
}

impl BuildArgs {
    pub(crate) fn build(self) -> Result<Option<ImageBuild>, String> {
        let Some(context) = self.build else { return Ok(None) };
        let args = pairs(self.build_arg)?;
        let secrets = super::secret::parse("--build-secret", self.build_secret)?;
        let dockerfile = self.dockerfile;
        Ok(Some(ImageBuild { context, dockerfile, args, secrets, target: self.target, ..ImageBuild::default() }))
    }
}

fn pairs(texts: Vec<String>) -> Result<BTreeMap<String, String>, String> {
    let pair = |text: String| match text.split_once('=') {
        Some((name, value)) => Ok((name.to_owned(), value.to_owned())),
        None => Err(format!("--build-arg {text}: use NAME=VALUE")),
    };
    texts.into_iter().map(pair).collect()
}

/// Runs the command.
pub(crate) async fn run(context: &Context, command: Command) -> Result<u8, Failure> {
    let backend = context.backend(&[])?;
    match command {
        Command::Ls => {
            let all = backend.images().await?;
            if context.out.json {
                context.out.value(&all)?;
            } else {
                let row = |image: &crate::lifecycle::ImageView| {
                    let id: String = image.id.trim_start_matches("sha256:").chars().take(12).collect();
                    let workspace = image.workspace.clone().unwrap_or_else(|| "-".into());
                    let size = bytes(Some(image.size));
                    vec![image.reference.clone(), id, image.origin.to_string(), workspace, size, ago(image.created_at)]
                };
                let rows = all.iter().map(row).collect();
                const COLUMNS: [Column; 6] = [
                    column("IMAGE").cut(20),
                    column("ID").optional(4),
                    column("ORIGIN").optional(2),
                    column("WORKSPACE").cut(12).optional(1),
                    column("SIZE").right(),
                    column("BUILT").optional(3),
                ];
                context.out.table(&COLUMNS, rows)?;
            }
            Ok(0)
        }
        Command::Pull { reference } => {
            let mut bars = Bars::new(context.out.json);
            let pulled = backend.pull_image(&reference, &mut |progress| bars.show(progress)).await;
            bars.clear();
            pulled?;
            done(context, &format!("{reference} pulled"))
        }
        Command::Build(args) => {
            let usage = |text: String| Failure::new("bad-request", text, "see 'wharf image build --help'", 2);
            let folder = args.path.unwrap_or_else(|| context.project_folder());
            let build = ImageBuild {
                context: folder,
                dockerfile: args.file,
                args: pairs(args.build_arg).map_err(usage)?,
                target: args.target,
                no_cache: args.no_cache,
                pull: args.pull,
                secrets: super::secret::parse("--secret", args.secret).map_err(usage)?,
            };
            let mut bars = Bars::new(context.out.json);
            let built = backend.build_image(build, args.tag, &mut |step| bars.show(step)).await;
            bars.clear();
            let image = built?;
            if context.out.json {
                context.out.value(&image)?;
            } else {
                context.out.line(&image.reference)?;
            }
            Ok(0)
        }
        Command::Rm { images } => {
            let mut removals = Removals::new(context);
            for image in images {
                let removed = backend.remove_image(&image).await;
                removals.tell((image, removed));
            }
            removals.end()
        }
        Command::Prune => {
            let mut removals = Removals::new(context);
            for pruned in backend.prune_images().await? {
                removals.tell(pruned);
            }
            removals.end()
        }
    }
}

/// The output of removals, one image at a time.
struct Removals<'a> {
    several: Several<'a>,
    removed: Vec<String>,
}

impl<'a> Removals<'a> {
    fn new(context: &'a Context) -> Self {
        Self { several: Several::new(&context.out), removed: Vec::new() }
    }

    fn tell(&mut self, (image, removed): PrunedImage) {
        match removed {
            Ok(()) => {
                self.several.line(format!("{image} removed"));
                self.removed.push(image);
            }
            Err(error) => self.several.failed(&error.into()),
        }
    }

    fn end(mut self) -> Result<u8, Failure> {
        self.several.print(|out| if out.json { out.value(&self.removed) } else { Ok(()) });
        self.several.end()
    }
}

fn done(context: &Context, text: &str) -> Result<u8, Failure> {
    if !context.out.json {
        context.out.line(text)?;
    }
    Ok(0)
}
