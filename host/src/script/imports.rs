//! `import` in scripts: only from the importing policy's folder, after following links, and read once when the policy
//! is loaded. An imported script is a part of the policy: its digest is a part of the policy's digest.
//!
//! May touch: the folder of the script.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rhai::module_resolvers::ModuleResolver;
use rhai::{ASTNode, Engine, EvalAltResult, Expr, Module, Position, Scope, Shared, Stmt};

use super::diagnostic;
use crate::hooks::{Limits, PolicyError};
use crate::workspace::sha256_hex;

/// Maximum number of scripts that one policy imports, directly and indirectly.
const MOST: usize = 16;
/// Maximum bytes of an imported script.
const MOST_BYTES: u64 = 256 << 10;

/// The scripts that a policy imports: import path -> text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imports(Arc<BTreeMap<String, String>>);

impl Imports {
    /// Reads the imports of a script, and their imports.
    ///
    /// # Errors
    /// An import that leads out of the folder, is computed, does not exist, is circular, or is too large; with file
    /// and line.
    pub fn read(name: &str, source: &str, folder: &Path) -> Result<Self, PolicyError> {
        Self::read_telling(name, source, folder, &mut Vec::new())
    }

    /// Does the same as [`Imports::read`], and also reports the files that were looked up, even after a failure.
    ///
    /// # Errors
    /// The errors of [`Imports::read`].
    pub fn read_telling(
        name: &str,
        source: &str,
        folder: &Path,
        looked: &mut Vec<PathBuf>,
    ) -> Result<Self, PolicyError> {
        // Most scripts have no imports and need not be parsed for them. A script that is too large to load is not
        // parsed either.
        if !source.contains("import") || source.len() > super::SOURCE {
            return Ok(Self::default());
        }
        let mut found = BTreeMap::new();
        // The import graph, for finding cycles.
        let mut edges: BTreeMap<String, Vec<String>> = BTreeMap::new();
        let mut queue = vec![(name.to_owned(), source.to_owned())];
        while let Some((importer, text)) = queue.pop() {
            for (path, at) in statements(&importer, &text)? {
                let refuse = |why: String| diagnostic::located("import", &importer, &text, at, &why, &[]);
                let Some(path) = path else {
                    return Err(refuse(
                        "import takes a literal string, because it is resolved before the script runs".into(),
                    ));
                };
                edges.entry(importer.clone()).or_default().push(path.clone());
                if reaches(&edges, &path, &importer) {
                    return Err(refuse(format!("import \"{path}\" is circular: it leads back to {importer}")));
                }
                if found.contains_key(&path) {
                    continue;
                }
                if found.len() == MOST {
                    return Err(refuse(format!("a policy can import at most {MOST} scripts")));
                }
                looked.push(file(folder, &path));
                let imported = open(folder, &path).map_err(|why| refuse(format!("import \"{path}\": {why}")))?;
                found.insert(path.clone(), imported.clone());
                queue.push((path, imported));
            }
        }
        Ok(Self(Arc::new(found)))
    }

    /// Returns whether there are no imports.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Returns the paths of the imported scripts, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Returns the text of an imported script.
    pub fn source(&self, path: &str) -> Option<&str> {
        self.0.get(path).map(String::as_str)
    }

    /// Returns the SHA-256 (hex) of a script with all its imports; without imports, of its text.
    pub fn digest(&self, source: &str) -> String {
        let own = sha256_hex(source.as_bytes());
        if self.is_empty() {
            return own;
        }
        let each = self.0.iter().map(|(path, text)| format!("\n{path} {}", sha256_hex(text.as_bytes())));
        sha256_hex(format!("{own}{}", each.collect::<String>()).as_bytes())
    }
}

/// Returns whether imports lead from one script to another.
fn reaches(edges: &BTreeMap<String, Vec<String>>, from: &str, to: &str) -> bool {
    let (mut queue, mut seen) = (vec![from], std::collections::BTreeSet::new());
    while let Some(at) = queue.pop() {
        if at == to {
            return true;
        }
        if seen.insert(at) {
            queue.extend(edges.get(at).into_iter().flatten().map(String::as_str));
        }
    }
    false
}

/// Returns the import statements of a script: the path, or none if it is computed.
fn statements(name: &str, source: &str) -> Result<Vec<(Option<String>, Position)>, PolicyError> {
    let mut engine = super::engine::engine(&Limits::default());
    engine.set_module_resolver(Resolver::default());
    let ast = engine.compile(source).map_err(|error| diagnostic::parse(name, source, &error))?;
    let mut found = Vec::new();
    ast.walk(&mut |path: &[ASTNode]| {
        if let Some(ASTNode::Stmt(Stmt::Import(import, at))) = path.last() {
            let text = match &import.0 {
                Expr::StringConstant(text, _) => Some(text.to_string()),
                _ => None,
            };
            found.push((text, *at));
        }
        true
    });
    Ok(found)
}

fn file(folder: &Path, path: &str) -> PathBuf {
    folder.join(path).with_extension("rhai")
}

/// Reads an imported script.
fn open(folder: &Path, path: &str) -> Result<String, String> {
    let inner = Path::new(path);
    let plain = inner.components().all(|part| matches!(part, Component::Normal(_)));
    if !plain || path.is_empty() {
        return Err(format!("only scripts in {} can be imported, with a path without '..'", folder.display()));
    }
    let file = file(folder, path);
    let real = |path: &Path| path.canonicalize().map_err(|error| format!("cannot read '{}': {error}", path.display()));
    let (real_folder, file) = (real(folder)?, real(&file)?);
    if !file.starts_with(&real_folder) {
        return Err(format!("it leads to {}, outside {}", file.display(), folder.display()));
    }
    let bytes = super::files::read_bounded(&file, MOST_BYTES).map_err(|why| format!("{} {why}", file.display()))?;
    String::from_utf8(bytes).map_err(|_| "it is not UTF-8 text".into())
}

/// Provides imported scripts to Rhai: compiled once, and only those that were read.
#[derive(Default)]
pub(super) struct Resolver {
    imports: Imports,
    compiled: Mutex<BTreeMap<String, Shared<Module>>>,
}

impl Resolver {
    pub(super) fn new(imports: &Imports) -> Self {
        Self { imports: imports.clone(), compiled: Mutex::default() }
    }
}

impl ModuleResolver for Resolver {
    fn resolve(
        &self,
        engine: &Engine,
        _: Option<&str>,
        path: &str,
        at: Position,
    ) -> Result<Shared<Module>, Box<EvalAltResult>> {
        let known = self.compiled.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned();
        if let Some(module) = known {
            return Ok(module);
        }
        let Some(text) = self.imports.source(path) else {
            return Err(Box::new(EvalAltResult::ErrorModuleNotFound(path.to_owned(), at)));
        };
        let mut ast = engine
            .compile(text)
            .map_err(|error| Box::new(EvalAltResult::ErrorInModule(path.to_owned(), Box::new(error.into()), at)))?;
        ast.set_source(path);
        let module = Module::eval_ast_as_new(Scope::new(), &ast, engine)
            .map_err(|error| Box::new(EvalAltResult::ErrorInModule(path.to_owned(), error, at)))?;
        let module: Shared<Module> = module.into();
        self.compiled.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_owned(), module.clone());
        Ok(module)
    }
}
