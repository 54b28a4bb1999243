//! Runs every recipe of docs/cookbook.md in a folder of its own, on the real engine.
//!
//! A recipe is a section. A block whose first line is a comment with a path is a file of the recipe; the commands of
//! its `sh` blocks run in the folder `project` beside `wharf.toml`; each line of a `text` block must be in the output
//! of the commands, where `...` stands for any text.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod pages;

use std::path::{Component, Path};

use pages::{Block, Place, blocks, read, root, steps};

const PAGE: &str = "docs/cookbook.md";

/// One section of the page.
struct Recipe {
    title: String,
    blocks: Vec<Block>,
}

/// Splits a page into its sections with commands.
fn recipes(text: &str) -> Vec<Recipe> {
    let headings = text.lines().enumerate().filter(|(_, line)| line.starts_with("## "));
    let headings: Vec<(usize, &str)> = headings.map(|(number, line)| (number + 1, line[3..].trim())).collect();
    let mut recipes: Vec<Recipe> =
        headings.iter().map(|(_, title)| Recipe { title: (*title).to_owned(), blocks: Vec::new() }).collect();
    for block in blocks(text) {
        let section = headings.iter().take_while(|(line, _)| *line < block.line).count();
        if section > 0 {
            recipes[section - 1].blocks.push(block);
        }
    }
    recipes.retain(|recipe| recipe.blocks.iter().any(|block| block.language == "sh"));
    recipes
}

/// Returns the path in the first line of a block: `# wharf.toml` or `// policies/a.rhai`.
fn path_of(block: &Block) -> Option<&Path> {
    if ["sh", "text", "console"].contains(&&*block.language) {
        return None;
    }
    let first = block.text.lines().next().unwrap_or_default();
    let path = Path::new(first.strip_prefix("# ").or_else(|| first.strip_prefix("// "))?.trim());
    path.components().all(|part| matches!(part, Component::Normal(_))).then_some(path)
}

/// Returns whether an expected line is a part of a line of output. Blanks count once, and `...` stands for any text.
fn matches(expected: &str, output: &str) -> bool {
    let plain = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let parts: Vec<String> = expected.split("...").map(plain).collect();
    output.lines().map(plain).any(|line| {
        let mut rest = &*line;
        parts.iter().all(|part| match rest.split_once(part.as_str()) {
            Some((_, after)) => {
                rest = after;
                true
            }
            None => false,
        })
    })
}

/// Runs a recipe. Returns the lines that are wrong.
fn run(number: usize, recipe: &Recipe) -> Vec<String> {
    let mut place = Place::new(&format!("cookbook-{number}"), "state");
    place.here = place.dir.join("project");
    std::fs::create_dir_all(&place.here).unwrap();
    for block in &recipe.blocks {
        let Some(path) = path_of(block) else { continue };
        let file = place.dir.join(path);
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, format!("{}\n", block.text)).unwrap();
    }
    place.configure(&place.dir.join("wharf.toml"));
    let (mut output, mut wrong) = (String::new(), Vec::new());
    for step in steps(&recipe.blocks) {
        match place.step(&step) {
            Ok(text) => output += &text,
            Err(why) => wrong.push(format!("{PAGE}:{}: '{}': {why}", step.line, step.command)),
        }
    }
    for block in recipe.blocks.iter().filter(|block| block.language == "text") {
        let lines = block.text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
        let missing = lines.filter(|(_, line)| !matches(line, &output));
        wrong
            .extend(missing.map(|(offset, line)| format!("{PAGE}:{}: not in the output: {line}", block.line + offset)));
    }
    let (_, left) = place.run("wharf ls -q");
    if !left.is_empty() {
        wrong.push(format!("{PAGE}: '{}' does not remove what it makes: {left}", recipe.title));
    }
    // A recipe that broke may have left a volume, which other installations may not use.
    place.run("wharf down --all --volumes");
    if !wrong.is_empty() {
        wrong.push(format!("the output of '{}' was:\n{output}", recipe.title));
    }
    wrong
}

#[test]
fn every_recipe_of_the_cookbook_has_the_outcome_that_it_shows() {
    let recipes = recipes(&read(PAGE));
    assert!(recipes.len() >= 12, "{PAGE} has only {} recipes", recipes.len());
    let wrong: Vec<String> = recipes.iter().enumerate().flat_map(|(number, recipe)| run(number, recipe)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_recipe_has_its_files_in_one_configuration() {
    for recipe in recipes(&read(PAGE)) {
        let files: Vec<&Path> = recipe.blocks.iter().filter_map(path_of).collect();
        assert!(files.contains(&Path::new("wharf.toml")), "'{}' has no wharf.toml", recipe.title);
        let plain = ["sh", "text", "console"];
        let nameless =
            recipe.blocks.iter().find(|block| !plain.contains(&&*block.language) && path_of(block).is_none());
        assert!(nameless.is_none(), "'{}' has a block without a file name", recipe.title);
    }
    assert!(root().join(PAGE).is_file());
}

#[test]
fn a_wrong_outcome_is_found() {
    assert!(matches("a ... c", "x\n a  b   c d\n") && !matches("a ... c", "a b\nc\n") && !matches("b...a", "a b"));
    let text = "## One\n\n```toml\n# wharf.toml\n```\n\n## Two\n\n```sh\nwharf --version\nwharf nope\n```\n\n```text\nno such line\nwharf 0\n```\n";
    let recipes = recipes(text);
    let [recipe] = &*recipes else { panic!("{} recipes", recipes.len()) };
    assert_eq!(recipe.title, "Two");
    let places: Vec<String> = run(99, recipe).iter().map(|line| line.chars().take(20).collect()).collect();
    assert_eq!(places[..2], ["docs/cookbook.md:11:", "docs/cookbook.md:15:"]);
}
