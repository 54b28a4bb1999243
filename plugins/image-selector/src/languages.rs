//! The built-in languages: their images, and the files that belong to them.

use crate::readers::{self as read, Reader, marker};
use crate::version::TagParts;

/// A built-in language.
pub struct BuiltIn {
    /// The name in settings and reasons.
    pub name: &'static str,
    /// The image reference, with `{version}` as a placeholder for the version. None if there is no official image.
    pub image: Option<&'static str>,
    /// The version if the project states none.
    pub version: &'static str,
    /// The numbers of parts that the versions in the image's tags have.
    pub tag_parts: TagParts,
    /// Its names in `.tool-versions` and `mise.toml`, in addition to its own.
    pub tools: &'static [&'static str],
    /// The files that indicate the language, those that decide on its version first.
    pub sources: &'static [Source],
    /// Endings of further names that indicate the language, e.g. `.csproj`.
    pub endings: &'static [(&'static str, Reader)],
}

/// A file that indicates a language, or one of its statements.
pub struct Source {
    /// The path in the project.
    pub file: &'static str,
    /// The part of the file that is read, if the file has several statements on the version.
    pub part: &'static str,
    /// None if the file counts by its name.
    pub read: Option<Reader>,
}

const fn file(file: &'static str, read: Reader) -> Source {
    Source { file, part: "", read: Some(read) }
}

const fn part(file: &'static str, part: &'static str, read: Reader) -> Source {
    Source { file, part, read: Some(read) }
}

const fn name(file: &'static str) -> Source {
    Source { file, part: "", read: None }
}

const fn language(
    name: &'static str,
    image: &'static str,
    version: &'static str,
    tools: &'static [&'static str],
    sources: &'static [Source],
) -> BuiltIn {
    BuiltIn { name, image: Some(image), version, tag_parts: (1, 3), tools, sources, endings: &[] }
}

const fn without_image(name: &'static str, tools: &'static [&'static str], sources: &'static [Source]) -> BuiltIn {
    BuiltIn { image: None, ..language(name, "", "latest", tools, sources) }
}

/// The built-in languages in order of precedence for projects with several. Node comes last: a `package.json` often
/// exists beside a project's main language only to build its front end. C, too, is often only a part.
pub static BUILT_IN: &[BuiltIn] = &[
    language(
        "rust",
        "rust:{version}-slim",
        "1",
        &[],
        &[
            file("rust-toolchain", read::rust_toolchain),
            file("rust-toolchain.toml", read::rust_toolchain_toml),
            file("Cargo.toml", read::cargo),
        ],
    ),
    language(
        "go",
        "golang:{version}",
        "1",
        &["golang"],
        &[
            part("go.work", "toolchain", read::go_toolchain),
            file("go.work", read::go),
            part("go.mod", "toolchain", read::go_toolchain),
            file("go.mod", read::go),
        ],
    ),
    BuiltIn {
        tag_parts: (2, 3),
        ..language("elixir", "elixir:{version}-slim", "1.18", &[], &[file("mix.exs", read::mix)])
    },
    language("erlang", "erlang:{version}-slim", "27", &[], &[file("rebar.config", read::rebar)]),
    language(
        "clojure",
        "clojure:{version}",
        "tools-deps",
        &[],
        &[file("deps.edn", marker), file("project.clj", read::leiningen)],
    ),
    language(
        "java",
        "eclipse-temurin:{version}-jdk",
        "21",
        &[],
        &[
            file(".java-version", read::line),
            file("pom.xml", read::pom),
            file("build.gradle", read::gradle),
            file("build.gradle.kts", read::gradle),
        ],
    ),
    BuiltIn {
        tag_parts: (2, 3),
        endings: &[
            (".csproj", read::msbuild),
            (".fsproj", read::msbuild),
            (".vbproj", read::msbuild),
            (".sln", marker),
            (".slnx", marker),
        ],
        ..language(
            "dotnet",
            "mcr.microsoft.com/dotnet/sdk:{version}",
            "10.0",
            &["dotnet-core"],
            &[file("global.json", read::global_json), file("Directory.Build.props", read::msbuild)],
        )
    },
    BuiltIn {
        tag_parts: (2, 3),
        ..language(
            "swift",
            "swift:{version}",
            "6.1",
            &[],
            &[file(".swift-version", read::line), file("Package.swift", read::swift_tools)],
        )
    },
    BuiltIn {
        endings: &[(".cabal", marker)],
        ..language(
            "haskell",
            "haskell:{version}",
            "9",
            &["ghc"],
            &[file("stack.yaml", read::stack), file("cabal.project", read::cabal_project)],
        )
    },
    BuiltIn {
        tag_parts: (2, 2),
        endings: &[(".opam", marker)],
        ..language("ocaml", "ocaml/opam:debian-ocaml-{version}", "5.2", &[], &[file("dune-project", read::dune)])
    },
    language("dart", "dart:{version}", "3", &[], &[file("pubspec.yaml", read::pubspec)]),
    language(
        "php",
        "php:{version}-cli",
        "8",
        &[],
        &[part("composer.json", "platform", read::composer_platform), file("composer.json", read::composer)],
    ),
    language(
        "ruby",
        "ruby:{version}-slim",
        "3",
        &[],
        &[file(".ruby-version", read::ruby_version), file("Gemfile", read::gemfile)],
    ),
    language("perl", "perl:{version}-slim", "5", &[], &[file("cpanfile", read::cpanfile)]),
    language(
        "julia",
        "julia:{version}",
        "1",
        &[],
        &[file("Manifest.toml", read::julia_manifest), file("Project.toml", read::julia_project)],
    ),
    BuiltIn {
        endings: &[(".Rproj", marker)],
        ..language(
            "r",
            "rocker/r-ver:{version}",
            "4",
            &["R"],
            &[file("renv.lock", read::renv), file("DESCRIPTION", read::r_description)],
        )
    },
    language(
        "conda",
        "condaforge/miniforge3:{version}",
        "latest",
        &[],
        &[file("environment.yml", read::conda), file("environment.yaml", read::conda)],
    ),
    language(
        "python",
        "python:{version}-slim",
        "3",
        &[],
        &[
            file(".python-version", read::line),
            file("runtime.txt", read::python_runtime),
            file("Pipfile", read::pipfile),
            file("pyproject.toml", read::requires_python),
            part("pyproject.toml", "poetry", read::poetry),
            file("requirements.txt", marker),
            file("setup.py", marker),
        ],
    ),
    language(
        "c",
        "gcc:{version}",
        "14",
        &["gcc"],
        &[
            file("CMakeLists.txt", marker),
            file("meson.build", marker),
            file("configure.ac", marker),
            file("Makefile", read::makefile),
        ],
    ),
    BuiltIn {
        tag_parts: (3, 3),
        ..language(
            "deno",
            "denoland/deno:{version}",
            "latest",
            &[],
            &[file("deno.json", marker), file("deno.jsonc", marker), name("deno.lock")],
        )
    },
    language(
        "bun",
        "oven/bun:{version}",
        "1",
        &[],
        &[file("package.json", read::bun), name("bun.lock"), name("bun.lockb")],
    ),
    language(
        "node",
        "node:{version}-slim",
        "22",
        &["nodejs"],
        &[
            file(".nvmrc", read::line),
            file(".node-version", read::line),
            part("package.json", "volta", read::volta),
            file("package.json", read::engines),
        ],
    ),
    without_image("zig", &[], &[file("build.zig", marker)]),
    without_image("scala", &["sbt"], &[file("build.sbt", marker)]),
    BuiltIn { endings: &[(".rockspec", marker)], ..without_image("lua", &["luajit"], &[]) },
];

/// Returns the built-in language of this name.
pub fn built_in(name: &str) -> Option<&'static BuiltIn> {
    BUILT_IN.iter().find(|known| known.name == name)
}
