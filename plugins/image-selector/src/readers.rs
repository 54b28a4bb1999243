//! Readers of project files: each returns the version that one file states for one language.

use crate::formats::tokens::{self, HASH, PERCENT, SEMICOLON, SLASHES, Token, tokens};
use crate::formats::xml::{self, Element};
use crate::formats::{Value, first_line, json, toml, yaml};
use crate::version;

/// The statement of a file about a language.
#[derive(Debug, PartialEq)]
pub enum Says {
    /// The file has to do with other things.
    Nothing,
    /// The file belongs to the language and states no version.
    Marker,
    /// The file states a version, as an expression.
    Version(String),
    /// The file has to be in this format and is not.
    Broken(&'static str),
}

/// Reads a file.
pub type Reader = fn(&str) -> Says;

use Says::{Broken, Marker, Nothing, Version};

/// Returns a marker, for files that belong to a language and state no version.
pub fn marker(_: &str) -> Says {
    Marker
}

fn version_or_marker(version: Option<impl Into<String>>) -> Says {
    version.map_or(Marker, |version| Version(version.into()))
}

/// Reads the only line of a version file.
pub fn line(text: &str) -> Says {
    version_or_marker(first_line(text))
}

/// Returns the first string that one of several paths leads to.
fn in_json(text: &str, paths: &[&[&str]]) -> Result<Option<String>, Says> {
    in_document(text, paths, |text, path| json(text, path).map_err(|_| Broken("JSON")))
}

/// Returns the first string that one of several paths leads to.
fn in_toml(text: &str, paths: &[&[&str]]) -> Result<Option<String>, Says> {
    in_document(text, paths, |text, path| toml(text, path).map_err(|_| Broken("TOML")))
}

fn in_document(
    text: &str,
    paths: &[&[&str]],
    value: fn(&str, &[&str]) -> Result<Option<Value>, Says>,
) -> Result<Option<String>, Says> {
    for path in paths {
        if let Some(found) = value(text, path)?.and_then(Value::text) {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

fn said(found: Result<Option<String>, Says>) -> Says {
    found.map_or_else(|broken| broken, version_or_marker)
}

/// Reads `channel` of a `rust-toolchain.toml`.
pub fn rust_toolchain_toml(text: &str) -> Says {
    said(in_toml(text, &[&["toolchain", "channel"]]))
}

/// Reads `rust-toolchain`, which has a channel as its only line, or the content of a `rust-toolchain.toml`.
pub fn rust_toolchain(text: &str) -> Says {
    match in_toml(text, &[&["toolchain", "channel"]]) {
        Ok(Some(channel)) => Version(channel),
        _ => line(text),
    }
}

/// Reads the minimum compiler version, which is not the version to use.
pub fn cargo(text: &str) -> Says {
    let paths: [&[&str]; 2] = [&["package", "rust-version"], &["workspace", "package", "rust-version"]];
    said(in_toml(text, &paths).map(|found| found.map(|least| format!(">={least}"))))
}

/// Reads the line `go 1.24.1`. Patch releases only contain fixes: the newest 1.24 is best.
pub fn go(text: &str) -> Says {
    version_or_marker(go_directive(text, "go").and_then(series))
}

/// Reads the line `toolchain go1.24.3`.
pub fn go_toolchain(text: &str) -> Says {
    version_or_marker(go_directive(text, "toolchain").and_then(|name| series(name.strip_prefix("go")?)))
}

fn go_directive<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let mut words = line.split("//").next()?.split_whitespace();
        if words.next() == Some(name) { words.next() } else { None }
    })
}

/// Returns the first two parts of a version.
fn series(version: &str) -> Option<String> {
    let mut parts = version.split('.');
    Some([parts.next()?, parts.next()?].join("."))
}

/// Reads `elixir: "~> 1.16"`, or `elixir: @version` with `@version "~> 1.16"`.
pub fn mix(text: &str) -> Says {
    let tokens = tokens(text, &HASH);
    let key = [Token::Word("elixir"), Token::Sign(':')];
    let attribute = [&key[..], &[Token::Sign('@')]].concat();
    let found = match tokens::after(&tokens, &attribute) {
        Some(name) => tokens::after(&tokens, &[Token::Sign('@'), Token::Word(name)]),
        None => tokens::after(&tokens, &key),
    };
    version_or_marker(found)
}

/// Reads `{minimum_otp_vsn, "25"}`.
pub fn rebar(text: &str) -> Says {
    let key = [Token::Word("minimum_otp_vsn"), Token::Sign(',')];
    version_or_marker(tokens::after(&tokens(text, &PERCENT), &key).map(|least| format!(">={least}")))
}

/// Reads the version for which Maven compiles: a property, or the configuration of the compiler's plugin. A value that
/// refers to a property is followed.
pub fn pom(text: &str) -> Says {
    const PROPERTIES: [&str; 5] =
        ["maven.compiler.release", "java.version", "maven.compiler.target", "maven.compiler.source", "jdk.version"];
    let Ok(elements) = xml::texts(text) else { return Broken("XML") };
    let property = |name: &str| {
        let mut all = elements.iter();
        let found = all.find(|element| element.path.strip_prefix("project/properties/") == Some(name));
        found.map(|element| element.text.as_str())
    };
    let of_properties = PROPERTIES.into_iter().filter_map(property);
    let settings = of_compiler_plugin(&elements);
    let found = of_properties.chain(settings).find_map(|value| {
        let name = value.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        let value = name.map_or(Some(value), property)?;
        (!value.contains('$')).then_some(value)
    });
    version_or_marker(found)
}

/// Returns the versions in the configuration of Maven's compiler plugin, `release` first.
fn of_compiler_plugin(elements: &[Element]) -> Vec<&str> {
    const KEYS: [&str; 3] = ["release", "target", "source"];
    let mut is_compiler = false;
    let mut found = Vec::new();
    for Element { path, text } in elements {
        let Some(inside) = path.strip_prefix("project/build/") else { continue };
        let inside = inside.strip_prefix("pluginManagement/").unwrap_or(inside);
        if inside == "plugins/plugin/artifactId" {
            is_compiler = text == "maven-compiler-plugin";
        }
        let key = inside.strip_prefix("plugins/plugin/configuration/").filter(|_| is_compiler);
        if let Some(rank) = key.and_then(|key| KEYS.iter().position(|known| *known == key)) {
            found.push((rank, text.as_str()));
        }
    }
    found.sort_by_key(|(rank, _)| *rank);
    found.into_iter().map(|(_, text)| text).collect()
}

/// Reads the Java version of a Gradle script: its toolchain, or the version for which it compiles.
pub fn gradle(text: &str) -> Says {
    let tokens = tokens(text, &SLASHES);
    let call = |name| tokens::after(&tokens, &[Token::Word(name), Token::Sign('(')]);
    let direct = |name| tokens::after(&tokens, &[Token::Word(name)]);
    let set = |name| tokens::after(&tokens, &[Token::Word(name), Token::Sign('=')]);
    let toolchain = call("JavaLanguageVersion.of").or_else(|| call("jvmToolchain")).or_else(|| direct("jvmToolchain"));
    let named = || {
        ["options.release", "sourceCompatibility", "java.sourceCompatibility", "targetCompatibility"]
            .into_iter()
            .find_map(|name| set(name).or_else(|| direct(name)))
            .or_else(|| call("options.release.set"))
    };
    let constant = || {
        let mut words = tokens.iter().filter_map(|token| token.value());
        words.find(|word| word.starts_with("JavaVersion.VERSION_"))
    };
    let number = |value: &str| {
        let value = value.strip_prefix("JavaVersion.VERSION_").unwrap_or(value).replace('_', ".");
        value.starts_with(|c: char| c.is_ascii_digit()).then_some(value)
    };
    version_or_marker(
        toolchain.and_then(number).or_else(|| named().and_then(number)).or_else(|| constant().and_then(number)),
    )
}

/// Reads `sdk.version` of a `global.json`. With a policy that allows newer versions, less of the version counts.
pub fn global_json(text: &str) -> Says {
    let of = |name| in_json(text, &[&["sdk", name]]);
    match (of("version"), of("rollForward")) {
        (Ok(Some(version)), Ok(policy)) => Version(match policy.as_deref() {
            Some("major" | "latestMajor") => format!(">={version}"),
            Some("minor" | "latestMinor" | "feature" | "latestFeature") => series(&version).unwrap_or(version),
            _ => version,
        }),
        (found, _) => said(found),
    }
}

/// Reads the newest .NET of a project file's target frameworks. Others, such as `netstandard2.0`, name no SDK.
pub fn msbuild(text: &str) -> Says {
    let Ok(elements) = xml::texts(text) else { return Broken("XML") };
    let is_target = |element: &&Element| {
        let name = element.path.strip_prefix("Project/PropertyGroup/");
        matches!(name, Some("TargetFramework" | "TargetFrameworks"))
    };
    let frameworks = elements.iter().filter(is_target).flat_map(|element| element.text.split(';'));
    let versions = frameworks.filter_map(|framework| {
        let version = framework.trim().strip_prefix("net")?.split('-').next()?;
        let (major, minor) = version.split_once('.')?;
        Some((major.parse::<u32>().ok()?, minor.parse::<u32>().ok()?))
    });
    version_or_marker(versions.max().map(|(major, minor)| format!("{major}.{minor}")))
}

/// Reads `environment.sdk` of a Dart package.
pub fn pubspec(text: &str) -> Says {
    version_or_marker(yaml::value(text, &["environment", "sdk"]))
}

/// Reads `(ocaml (>= 4.14))` of a package's dependencies.
pub fn dune(text: &str) -> Says {
    let tokens = tokens(text, &SEMICOLON);
    let at = tokens.windows(2).position(|pair| pair == [Token::Word("ocaml"), Token::Sign('(')]);
    let rest = at.and_then(|at| tokens.get(at + 2..)).unwrap_or_default();
    let mut expression = String::new();
    for token in rest {
        match token {
            Token::Sign(sign) if "<>=".contains(*sign) => expression.push(*sign),
            Token::Word(version) | Token::Text(version) if !expression.is_empty() => {
                expression.push_str(version);
                return Version(expression);
            }
            _ => break,
        }
    }
    Marker
}

/// Reads the PHP version for which Composer resolves packages.
pub fn composer_platform(text: &str) -> Says {
    said(in_json(text, &[&["config", "platform", "php"]]))
}

/// Reads the PHP versions that a package requires.
pub fn composer(text: &str) -> Says {
    said(in_json(text, &[&["require", "php"]]))
}

/// Reads `3.3.1` or `ruby-3.3.1`.
pub fn ruby_version(text: &str) -> Says {
    version_or_marker(first_line(text).map(|line| line.trim_start_matches("ruby-")))
}

/// Reads `ruby "~> 3.2"` of a Gemfile, which may have several conditions.
pub fn gemfile(text: &str) -> Says {
    let mut commented = false;
    let lines = text.lines().filter(|line| {
        let begins = line.starts_with("=begin");
        let was = commented;
        commented = (commented || begins) && !line.starts_with("=end");
        !was && !begins
    });
    let script = lines.collect::<Vec<_>>().join("\n");
    let tokens = tokens(&script, &HASH);
    let mut rest = tokens.as_slice();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        let after = if let [Token::Sign('('), after @ ..] = after { after } else { after };
        if *first == Token::Word("ruby")
            && let [Token::Text(version), after @ ..] = after
        {
            let second = match after {
                [Token::Sign(','), Token::Text(second), ..] => format!(",{second}"),
                _ => String::new(),
            };
            return Version(format!("{version}{second}"));
        }
    }
    Marker
}

/// Reads `requires 'perl', '5.036'`, the minimum.
pub fn cpanfile(text: &str) -> Says {
    let tokens = tokens(text, &HASH);
    let key = [Token::Word("requires"), Token::Text("perl")];
    let comma = tokens::after(&tokens, &[&key[..], &[Token::Sign(',')]].concat());
    let arrow = || tokens::after(&tokens, &[&key[..], &[Token::Sign('='), Token::Sign('>')]].concat());
    version_or_marker(comma.or_else(arrow).map(|version| format!(">={}", perl_version(version))))
}

/// Converts Perl's decimal versions: `5.036001` is 5.36.1.
fn perl_version(text: &str) -> String {
    let text = text.trim_start_matches([' ', '>', '=', 'v']);
    match text.split_once('.') {
        Some((major, decimals)) if decimals.len() >= 3 && decimals.chars().all(|c| c.is_ascii_digit()) => {
            let minor = decimals.get(..3).unwrap_or_default().trim_start_matches('0');
            format!("{major}.{}", if minor.is_empty() { "0" } else { minor })
        }
        _ => text.to_owned(),
    }
}

/// Reads the version of Julia that wrote the manifest.
pub fn julia_manifest(text: &str) -> Says {
    said(in_toml(text, &[&["julia_version"]]))
}

/// Reads `julia` in `[compat]`: versions without an operator allow later ones, and a comma separates alternatives.
pub fn julia_project(text: &str) -> Says {
    let is = |key: &str| toml(text, &[key]).is_ok_and(|value| value.is_some());
    match in_toml(text, &[&["compat", "julia"]]) {
        Ok(Some(compat)) => {
            let caret = |version: &str| {
                let version = version.trim();
                let bare = version.starts_with(|c: char| c.is_ascii_digit()) && !version.contains(" - ");
                if bare { format!("^{version}") } else { version.to_owned() }
            };
            Version(compat.split(',').map(caret).collect::<Vec<_>>().join(" || "))
        }
        Ok(None) if ["deps", "compat", "uuid", "extras", "weakdeps"].into_iter().any(is) => Marker,
        Ok(None) => Nothing,
        Err(broken) => broken,
    }
}

/// Reads the version of R in the lock file of renv.
pub fn renv(text: &str) -> Says {
    said(in_json(text, &[&["R", "Version"]]))
}

/// Reads an R package's `DESCRIPTION`, whose fields go on in lines that begin with a blank.
pub fn r_description(text: &str) -> Says {
    if !text.lines().any(|line| line.starts_with("Package:")) {
        return Nothing;
    }
    let mut lines = text.lines().skip_while(|line| !line.starts_with("Depends:"));
    let first = lines.next().unwrap_or_default().trim_start_matches("Depends:");
    let rest = lines.take_while(|line| line.starts_with([' ', '\t']));
    let field = std::iter::once(first).chain(rest).collect::<Vec<_>>().join(" ");
    let condition = field.split(',').find_map(|package| package.trim().strip_prefix("R")?.trim().strip_prefix('('));
    version_or_marker(condition.map(|condition| condition.trim_end_matches(')').trim()))
}

/// Accepts a file of Conda: other tools have an `environment.yml`, too.
pub fn conda(text: &str) -> Says {
    let is = ["dependencies", "channels"].into_iter().any(|key| yaml::value(text, &[key]).is_some());
    if is { Marker } else { Nothing }
}

/// Reads `requires-python` of a project.
pub fn requires_python(text: &str) -> Says {
    said(in_toml(text, &[&["project", "requires-python"]]))
}

/// Reads Python's version among the dependencies of Poetry.
pub fn poetry(text: &str) -> Says {
    let paths: [&[&str]; 2] =
        [&["tool", "poetry", "dependencies", "python"], &["tool", "poetry", "dependencies", "python", "version"]];
    said(in_toml(text, &paths))
}

/// Reads the Python version that Pipenv requires.
pub fn pipfile(text: &str) -> Says {
    said(in_toml(text, &[&["requires", "python_full_version"], &["requires", "python_version"]]))
}

/// Reads `python-3.12.1`.
pub fn python_runtime(text: &str) -> Says {
    version_or_marker(first_line(text).map(|line| line.trim_start_matches("python-")))
}

/// The endings of source files in C and C++.
pub const C_SOURCES: [&str; 4] = [".c", ".cpp", ".cc", ".cxx"];

/// Accepts a makefile that calls a compiler of C or C++, or names sources in these languages.
pub fn makefile(text: &str) -> Says {
    let lines = text.lines().filter_map(|line| line.split('#').next());
    let mut words = lines.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && !"._+$()-".contains(c)));
    let compiles = words.any(|word| {
        matches!(word, "$(CC)" | "$(CXX)" | "gcc" | "g++" | "clang" | "clang++")
            || C_SOURCES.iter().any(|ending| word.ends_with(ending))
    });
    if compiles { Marker } else { Nothing }
}

/// Reads the compiler of a snapshot of Stackage: `lts-22.33` has GHC 9.6.
pub fn stack(text: &str) -> Says {
    let of = |key| yaml::value(text, &[key]);
    let ghc = of("compiler").and_then(|compiler| Some(compiler.strip_prefix("ghc-")?.to_owned()));
    let snapshot = || {
        let name = of("snapshot").or_else(|| of("resolver"))?;
        if let Some(version) = name.strip_prefix("ghc-") {
            return Some(version.to_owned());
        }
        let number: u32 = name.strip_prefix("lts-")?.split('.').next()?.parse().ok()?;
        let series = match number {
            24 => "9.10",
            23 => "9.8",
            22 => "9.6",
            21 => "9.4",
            20 => "9.2",
            19 => "9.0",
            17..=18 => "8.10",
            _ => return None,
        };
        Some(series.to_owned())
    };
    version_or_marker(ghc.or_else(snapshot))
}

/// Reads `with-compiler: ghc-9.6.6`.
pub fn cabal_project(text: &str) -> Says {
    let line = text.lines().find_map(|line| line.strip_prefix("with-compiler:"));
    version_or_marker(line.and_then(|value| value.trim().strip_prefix("ghc-")))
}

/// Reads the first line, `// swift-tools-version: 5.9`: the minimum.
pub fn swift_tools(text: &str) -> Says {
    let comment = text.trim_start().lines().next().and_then(|line| line.strip_prefix("//"));
    let version = comment.and_then(|comment| comment.trim().strip_prefix("swift-tools-version"));
    let version = version.and_then(|rest| rest.trim_start_matches([':', ' ']).split(';').next());
    version_or_marker(version.map(|least| format!(">={}", least.trim())))
}

/// Names the build tool in place of a version: the images of Clojure differ in it.
pub fn leiningen(_: &str) -> Says {
    Version("lein".to_owned())
}

/// Reads `packageManager` or `engines.bun`; without them a `package.json` belongs to Node.
pub fn bun(text: &str) -> Says {
    let manager = in_json(text, &[&["packageManager"]]).ok().flatten();
    let pinned = manager.as_deref().and_then(|manager| manager.strip_prefix("bun@"));
    let pinned = pinned.map(|version| version.split('+').next().unwrap_or_default().to_owned());
    pinned.or_else(|| in_json(text, &[&["engines", "bun"]]).ok().flatten()).map_or(Nothing, Version)
}

/// Reads the Node version that Volta pins.
pub fn volta(text: &str) -> Says {
    said(in_json(text, &[&["volta", "node"]]))
}

/// Reads `engines.node`.
pub fn engines(text: &str) -> Says {
    said(in_json(text, &[&["engines", "node"]]))
}

/// Returns the expression of a version that a language writes in a way of its own.
pub fn expression(language: &str, wish: &str) -> String {
    let own = match (language, wish) {
        ("java", _) => version::java_major(wish),
        // Other channels have no image, and are left to be refused.
        ("rust", _) if wish == "stable" || wish.starts_with("stable-") => Some("*".to_owned()),
        ("node", _) => None,
        (_, "latest") => Some("*".to_owned()),
        _ => None,
    };
    own.unwrap_or_else(|| wish.to_owned())
}

/// Returns the tag that a language's image has for a name, such as the code name of a Node release.
pub fn alias(language: &str, wish: &str) -> Option<String> {
    match (language, wish) {
        ("node", "lts" | "lts/*") => Some("lts".into()),
        ("node", "node" | "current" | "latest" | "stable") => Some("current".into()),
        ("node", _) => {
            let name = wish.strip_prefix("lts/")?.to_ascii_lowercase();
            (!name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase())).then_some(name)
        }
        ("clojure", "lein" | "tools-deps") => Some(wish.to_owned()),
        _ => None,
    }
}
