//! Each language with its files and its image.

use super::{decide, image, project, reason};
use wharf_plugin_sdk::select_image::Verdict;

#[test]
fn each_language_is_known_by_its_files() {
    #[rustfmt::skip]
    let cases = [
        ("rust-toolchain.toml", "[toolchain]\nchannel = \"1.80.1\"", "rust:1.80.1-slim"),
        ("rust-toolchain", "1.79\n", "rust:1.79-slim"),
        ("rust-toolchain", "stable", "rust:1-slim"),
        ("Cargo.toml", "[package]\nrust-version = \"1.70\"", "rust:1-slim"),
        ("Cargo.toml", "[workspace]", "rust:1-slim"),
        ("go.mod", "module shop\n\ngo 1.24.1\n", "golang:1.24"),
        ("go.mod", "module shop\n", "golang:1"),
        ("mix.exs", "  elixir: \"~> 1.16\",", "elixir:1.18-slim"),
        (".java-version", "17.0.2", "eclipse-temurin:17-jdk"),
        ("pom.xml", "<project><properties><java.version>1.8</java.version></properties></project>",
            "eclipse-temurin:8-jdk"),
        ("pom.xml", "<project/>", "eclipse-temurin:21-jdk"),
        ("build.gradle", "languageVersion = JavaLanguageVersion.of(17)", "eclipse-temurin:17-jdk"),
        ("build.gradle", "sourceCompatibility = '11'", "eclipse-temurin:11-jdk"),
        ("build.gradle.kts", "kotlin { jvmToolchain(17) }", "eclipse-temurin:17-jdk"),
        ("build.gradle.kts", "sourceCompatibility = JavaVersion.VERSION_1_8", "eclipse-temurin:8-jdk"),
        ("composer.json", r#"{"require": {"php": "^7.4"}}"#, "php:7-cli"),
        (".ruby-version", "ruby-3.3.1", "ruby:3.3.1-slim"),
        ("Gemfile", "source 'x'\nruby \"~> 3.2.0\"", "ruby:3.2-slim"),
        (".python-version", "3.12.4\n3.11", "python:3.12.4-slim"),
        ("pyproject.toml", "[project]\nrequires-python = \">=3.10,<4\"", "python:3-slim"),
        ("pyproject.toml", "[tool.poetry.dependencies]\npython = \"~3.11\"", "python:3.11-slim"),
        ("requirements.txt", "flask", "python:3-slim"),
        (".nvmrc", "lts/*", "node:lts-slim"),
        (".nvmrc", "lts/Iron", "node:iron-slim"),
        (".nvmrc", "v20.11.1", "node:20.11.1-slim"),
        (".node-version", "20", "node:20-slim"),
        ("package.json", r#"{"engines": {"node": "^20 || >=22"}}"#, "node:22-slim"),
        ("package.json", "{}", "node:22-slim"),
        (".tool-versions", "java temurin-21.0.2+13.0.LTS", "eclipse-temurin:21-jdk"),
        (".tool-versions", "elixir 1.16.2-otp-26\nerlang 26.2", "elixir:1.16.2-slim"),
        (".tool-versions", "golang 1.23.4", "golang:1.23.4"),
    ];
    for (file, text, expected) in cases {
        assert_eq!(image(&[(file, text)], "{}"), expected, "{file}: {text}");
    }
}

#[test]
fn less_common_languages_are_known_by_their_files() {
    #[rustfmt::skip]
    let cases = [
        ("CMakeLists.txt", "project(shop CXX)", "gcc:14"),
        ("meson.build", "project('shop', 'c')", "gcc:14"),
        ("configure.ac", "AC_INIT", "gcc:14"),
        ("Makefile", "shop: main.c\n\t$(CC) -o $@ $<", "gcc:14"),
        ("shop.csproj", "", "mcr.microsoft.com/dotnet/sdk:10.0"),
        ("shop.fsproj", "", "mcr.microsoft.com/dotnet/sdk:10.0"),
        ("shop.sln", "", "mcr.microsoft.com/dotnet/sdk:10.0"),
        ("shop.csproj", "<Project Sdk=\"Microsoft.NET.Sdk\"><PropertyGroup><TargetFramework>net8.0</TargetFramework>\
            </PropertyGroup></Project>", "mcr.microsoft.com/dotnet/sdk:8.0"),
        ("Directory.Build.props", "<Project><PropertyGroup><TargetFrameworks>net6.0;net9.0-windows;netstandard2.0\
            </TargetFrameworks></PropertyGroup></Project>", "mcr.microsoft.com/dotnet/sdk:9.0"),
        ("global.json", r#"{"sdk": {"version": "8.0.100"}}"#, "mcr.microsoft.com/dotnet/sdk:8.0.100"),
        ("global.json", r#"{"sdk": {"version": "8.0.100", "rollForward": "latestFeature"}}"#,
            "mcr.microsoft.com/dotnet/sdk:8.0"),
        ("global.json", r#"{"sdk": {"version": "8.0.100", "rollForward": "latestMajor"}}"#,
            "mcr.microsoft.com/dotnet/sdk:10.0"),
        ("deno.json", "{}", "denoland/deno:latest"),
        ("deno.jsonc", "// ours\n{}", "denoland/deno:latest"),
        ("deno.lock", "{}", "denoland/deno:latest"),
        (".tool-versions", "deno 2.1.4", "denoland/deno:2.1.4"),
        ("bun.lock", "{}", "oven/bun:1"),
        ("bun.lockb", "\u{fffd}", "oven/bun:1"),
        ("package.json", r#"{"packageManager": "bun@1.1.38+sha1.00"}"#, "oven/bun:1.1.38"),
        ("package.json", r#"{"packageManager": "pnpm@9.0.0"}"#, "node:22-slim"),
        ("renv.lock", r#"{"R": {"Version": "4.3.2"}}"#, "rocker/r-ver:4.3.2"),
        ("DESCRIPTION", "Package: shop\nDepends:\n    R (>= 4.1.0),\n    utils\nImports: stats", "rocker/r-ver:4"),
        ("DESCRIPTION", "A shop.", "debian:stable-slim"),
        ("shop.Rproj", "Version: 1.0", "rocker/r-ver:4"),
        ("Manifest.toml", "julia_version = \"1.10.4\"\n[[deps.A]]\n", "julia:1.10.4"),
        ("Project.toml", "[compat]\njulia = \"1.6, 1.10\"", "julia:1"),
        ("Project.toml", "[compat]\njulia = \"~1.9\"", "julia:1.9"),
        ("Project.toml", "[deps]\nA = \"00\"", "julia:1"),
        ("Project.toml", "title = \"another tool's\"", "debian:stable-slim"),
        ("shop.cabal", "", "haskell:9"),
        ("cabal.project", "packages: .\nwith-compiler: ghc-9.4.8", "haskell:9.4.8"),
        ("stack.yaml", "# resolver: lts-18.0\nresolver: lts-22.33 # now", "haskell:9.6"),
        ("stack.yaml", "snapshot: ghc-9.6.6", "haskell:9.6.6"),
        ("stack.yaml", "resolver: nightly-2026-01-01", "haskell:9"),
        ("Package.swift", "// swift-tools-version:5.9\nimport PackageDescription", "swift:6.1"),
        ("Package.swift", "// swift-tools-version: 6.3", "swift:6.3"),
        (".swift-version", "5.10.1", "swift:5.10.1"),
        (".swift-version", "6", "swift:6.1"),
        (".swift-version", "5", "swift:5.0"),
        ("mix.exs", "@elixir \"~> 1.19\"\n  elixir: @elixir,\n", "elixir:1.19-slim"),
        ("mix.exs", "# elixir: \"1.10\"\n  elixir: \"1.17.3\"", "elixir:1.17.3-slim"),
        ("rebar.config", "% {minimum_otp_vsn, \"29\"}.\n{minimum_otp_vsn, \"26\"}.", "erlang:27-slim"),
        ("deps.edn", "{}", "clojure:tools-deps"),
        ("project.clj", "(defproject shop \"1.0\")", "clojure:lein"),
        ("pubspec.yaml", "name: shop\nenvironment:\n  sdk: '>=2.19.0 <3.0.0'\n", "dart:2"),
        ("pubspec.yaml", "environment:\n  sdk: ^3.5.0\n", "dart:3"),
        ("cpanfile", "# requires 'perl', '5.010';\nrequires 'perl', '5.036001';", "perl:5-slim"),
        ("dune-project", "(package (name shop) (depends (ocaml (>= 5.3))))", "ocaml/opam:debian-ocaml-5.3"),
        ("dune-project", "; (ocaml (>= 5.3))\n(lang dune 3.0)", "ocaml/opam:debian-ocaml-5.2"),
        (".tool-versions", "ocaml 5.1.1", "ocaml/opam:debian-ocaml-5.1"),
        ("environment.yml", "name: shop\ndependencies:\n  - python=3.11\n", "condaforge/miniforge3:latest"),
        ("environment.yaml", "channels: [conda-forge]\n", "condaforge/miniforge3:latest"),
        ("environment.yml", "production:\n  url: x\n", "debian:stable-slim"),
        ("Pipfile", "[requires]\npython_version = \"3.11\"", "python:3.11-slim"),
        ("runtime.txt", "python-3.11.4", "python:3.11.4-slim"),
        ("go.work", "go 1.23\n\nuse ./a", "golang:1.23"),
        ("mise.toml", "[tools]\nnode = \"20\" # \"18\"", "node:20-slim"),
        (".mise.toml", "[tools]\ngo = { version = \"1.23\" }", "golang:1.23"),
        ("mise.toml", "[tools]\npython = [\"3.12\", \"3.11\"]", "python:3.12-slim"),
        (".tool-versions", "python latest:3.11", "python:3.11-slim"),
        (".tool-versions", "python latest", "python:3-slim"),
    ];
    for (file, text, expected) in cases {
        let settings = format!(r#"{{"languages": {{"dotnet": {{"files": ["{file}"]}}}}}}"#);
        let settings = if file.ends_with(".csproj") { settings.as_str() } else { "{}" };
        assert_eq!(image(&[(file, text)], settings), expected, "{file}: {text}");
    }
}

#[test]
fn a_language_without_an_official_image_is_named_with_its_files() {
    assert_eq!(image(&[("build.zig", "")], "{}"), "debian:stable-slim");
    assert_eq!(reason(&[("build.zig", "")], "{}"), "no official image for zig (build.zig)");
    let files = [("build.sbt", ""), ("shop.rockspec", "")];
    assert_eq!(reason(&files, "{}"), "no official image for scala (build.sbt), lua (shop.rockspec)");
    assert_eq!(
        reason(&[("build.zig", ""), ("go.mod", "go 1.24")], "{}"),
        "go.mod asks for go 1.24; no official image for zig (build.zig)"
    );
}

#[test]
fn a_makefile_belongs_to_c_only_with_its_sources_or_its_compiler() {
    assert_eq!(image(&[("Makefile", "all:\n\tmake -C src"), ("main.cpp", "")], "{}"), "gcc:14");
    assert_eq!(image(&[("Makefile", "# see main.c\ntest:\n\tpytest")], "{}"), "debian:stable-slim");
    assert_eq!(image(&[("main.c", "")], "{}"), "debian:stable-slim");
    assert_eq!(
        reason(&[("Makefile", "a: a.c"), ("go.mod", "go 1.24")], "{}"),
        "go.mod asks for go 1.24; also c (Makefile): go comes first"
    );
}

#[test]
fn a_package_json_beside_bun_is_bun_s_unless_it_asks_for_node() {
    let lock = ("bun.lock", "{}");
    assert_eq!(
        reason(&[lock, ("package.json", "{}")], "{}"),
        "bun.lock is there, without a version: bun 1, the default"
    );
    let node = ("package.json", r#"{"engines": {"node": "20"}}"#);
    assert!(reason(&[lock, node], "{}").ends_with("also node (package.json): bun comes first"));
}

#[test]
fn comments_in_the_files_of_java_do_not_count() {
    #[rustfmt::skip]
    let cases = [
        ("pom.xml", "<project><!-- <properties><java.version>8</java.version></properties> -->\
            <properties><java.version>17</java.version></properties></project>", "17"),
        ("pom.xml", "<project><properties><a.b>11</a.b><maven.compiler.release>${a.b}</maven.compiler.release>\
            </properties></project>", "11"),
        ("pom.xml", "<project><properties><java.version>${jdk}</java.version></properties></project>", "21"),
        ("pom.xml", "<project><profiles><profile><properties><java.version>8</java.version></properties></profile>\
            </profiles></project>", "21"),
        ("pom.xml", "<project><build><plugins><plugin><artifactId>other</artifactId><configuration><release>8</release>\
            </configuration></plugin><plugin><artifactId>maven-compiler-plugin</artifactId><configuration>\
            <source>11</source><release>17</release></configuration></plugin></plugins></build></project>", "17"),
        ("build.gradle", "// sourceCompatibility = '8'\n/* jvmToolchain(11) */\nsourceCompatibility = '17'", "17"),
        ("build.gradle", "def note = 'JavaLanguageVersion.of(8)'\njava { toolchain { languageVersion = \
            JavaLanguageVersion.of( 17 ) } }", "17"),
        ("build.gradle", "tasks { options.release = 11 }", "11"),
        ("build.gradle.kts", "kotlin {\n // jvmToolchain(8)\n jvmToolchain(17)\n}", "17"),
        ("build.gradle.kts", "val note = \"\"\"\njvmToolchain(8)\n\"\"\"", "21"),
        ("build.gradle.kts", "sourceCompatibility = JavaVersion.VERSION_11", "11"),
    ];
    for (file, text, version) in cases {
        let expected = format!("eclipse-temurin:{version}-jdk");
        assert_eq!(image(&[(file, text)], "{}"), expected, "{file}: {text}");
    }
}

#[test]
fn comments_and_strings_in_other_files_do_not_count() {
    #[rustfmt::skip]
    let cases = [
        ("Gemfile", "# ruby '2.7'\nruby '3.2.0' # '3.1'", "ruby:3.2.0-slim"),
        ("Gemfile", "=begin\nruby '2.7'\n=end\nruby('~> 3.2.1', '< 4')", "ruby:3.2-slim"),
        ("Gemfile", "gem 'ruby', '1'\n", "ruby:3-slim"),
        ("go.mod", "// go 1.20\nmodule shop\ngo 1.24 // go 1.25", "golang:1.24"),
        ("pyproject.toml", "[tool.x]\ntext = '''\n[project]\nrequires-python = \"~=2.7\"\n'''\n[project]\n\
            requires-python = \"==3.11.*\"", "python:3.11-slim"),
        ("pyproject.toml", "project.requires-python = \"==3.11.*\"", "python:3.11-slim"),
        ("Cargo.toml", "[package]\n# rust-version = \"9.0\"\n", "rust:1-slim"),
        ("rust-toolchain.toml", "toolchain = { channel = \"1.80\" }", "rust:1.80-slim"),
        ("package.json", r#"{"x": {"engines": {"node": "18"}}, "engines": {"node": "20"}}"#, "node:20-slim"),
    ];
    for (file, text, expected) in cases {
        assert_eq!(image(&[(file, text)], "{}"), expected, "{file}: {text}");
    }
}

#[test]
fn a_file_that_cannot_be_parsed_is_named_and_gives_the_default() {
    let expected = |file: &str, language: &str, format: &str| {
        format!("{file} is there, without a version: {language}, the default; {file} is no valid {format}")
    };
    for (file, text, language, format) in [
        ("package.json", "{", "node 22", "JSON"),
        ("pyproject.toml", "[project", "python 3", "TOML"),
        ("pom.xml", "<project>", "java 21", "XML"),
    ] {
        assert_eq!(reason(&[(file, text)], "{}"), expected(file, language, format), "{file}");
    }
}

#[test]
fn every_image_of_the_table_is_a_reference() {
    for known in crate::languages::BUILT_IN {
        let Some(image) = known.image else { continue };
        let input = project(&[(".tool-versions", &format!("{} latest", known.name))]);
        let Verdict::Choose(choice) = decide(input, "{}") else { panic!("{}", known.name) };
        assert!(crate::reference::is_valid(&choice.reference), "{choice:?}");
        assert!(image.contains("{version}"), "{image}");
    }
}

#[test]
fn the_documentation_has_each_language_with_its_files_and_its_image_in_the_order_of_precedence() {
    let page = include_str!("../../../../docs/plugins.md");
    let (_, page) = page.split_once("## How image-selector chooses").unwrap();
    let rows: Vec<&str> = page.lines().filter(|line| line.starts_with("| `")).collect();
    let mut last = 0;
    for known in crate::languages::BUILT_IN {
        let is = |row: &&str| row.split('|').nth(1).is_some_and(|cell| cell.contains(&format!("`{}`", known.name)));
        let at = rows.iter().position(is).unwrap_or_else(|| panic!("{}", known.name));
        assert!(at >= last, "{} is out of order", known.name);
        last = at;
        for source in known.sources {
            assert!(rows[at].contains(&format!("`{}`", source.file)), "{}: {}", known.name, source.file);
        }
        for (ending, _) in known.endings {
            assert!(rows[at].contains(&format!("`*{ending}`")), "{}: {ending}", known.name);
        }
        let image =
            known.image.map_or("no official image".to_owned(), |image| image.replace("{version}", known.version));
        assert!(rows[at].contains(&image), "{}: {image}", known.name);
    }
}
