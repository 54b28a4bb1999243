//! The image of a file: named or built.

use super::Build;
use super::json::{Node, Wrong};
use super::properties::{Reader, WITHOUT_EFFECT, member, object, wrong};
use crate::hooks::Adjustment;
use crate::workspace::{ImageChoice, PullPolicy};

impl Reader<'_> {
    pub(super) fn image(&mut self, members: &[(String, Node)]) -> Result<(), Wrong> {
        let image = match member(members, "image") {
            Some(node) => Some((self.filled("image", node)?, node)),
            None => None,
        };
        let build = match (member(members, "build"), member(members, "dockerFile")) {
            (Some(node), _) => Some((self.build(object(node, "build")?, "dockerfile", node)?, node)),
            (None, Some(node)) => Some((self.build(members, "dockerFile", node)?, node)),
            (None, None) => None,
        };
        match (image, build) {
            (Some((image, node)), build) => {
                if let Some((_, node)) = build {
                    self.not("build", node.line, "an image is also named");
                }
                let choice = ImageChoice { reference: image.clone(), pull: PullPolicy::Missing, reason: String::new() };
                Adjustment::Image(choice).check().map_err(|what| wrong(node, what))?;
                self.out.image = Some((image, node.line));
            }
            (None, Some((build, _))) => self.out.build = Some(build),
            (None, None) => {}
        }
        Ok(())
    }

    /// Reads the build. `dockerfile` and `context` are in `build`; in older files they are separate properties.
    fn build(&mut self, members: &[(String, Node)], dockerfile: &str, at: &Node) -> Result<Build, Wrong> {
        let nested = dockerfile == "dockerfile";
        let mut build = Build { context: ".".into(), dockerfile: String::new(), line: at.line, ..Build::default() };
        for (name, node) in members {
            let property = if nested { format!("build.{name}") } else { name.clone() };
            match name.as_str() {
                name if name == dockerfile => build.dockerfile = self.filled(&property, node)?,
                "context" => build.context = self.filled(&property, node)?,
                "target" if nested => build.target = Some(self.filled(&property, node)?),
                "args" if nested => {
                    for (argument, node) in object(node, &property)? {
                        let value = self.filled(&format!("build.args.{argument}"), node)?;
                        build.args.insert(argument.clone(), value);
                    }
                }
                other if nested => {
                    let known = WITHOUT_EFFECT.iter().find(|(name, _)| *name == other);
                    self.not(&property, node.line, known.map_or("it is unknown", |(_, why)| *why));
                }
                _ => {}
            }
        }
        if build.dockerfile.is_empty() { Err(wrong(at, "'build' needs a dockerfile")) } else { Ok(build) }
    }
}
