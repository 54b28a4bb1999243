//! Problems of a script that can be found without running it: unknown functions, calls with the wrong number of
//! arguments, fields that `ctx` does not have, keys that no constant and no setting has. Loading (`RhaiPolicy::load`)
//! reports the other errors.
//!
//! Undecidable cases are not reported: a field of a value returned by a function, or a method of an unknown value.

use std::collections::BTreeMap;

use rhai::{AST, ASTFlags, ASTNode, Engine, Expr, FnCallExpr, Position, Stmt};

use serde_json::Value;

use known::Known;
pub(super) use known::{near, nearest};

use super::diagnostic::located;
use super::document::undeclared_variable;
use super::shape::Shape;
use super::{Imports, engine, fields, hook_of, imports, settings};
use crate::hooks::{Limits, PolicyError};

mod known;

/// Rhai's built-in functions, which take any number of arguments.
const KEYWORDS: [&str; 14] = [
    "print",
    "debug",
    "type_of",
    "Fn",
    "call",
    "curry",
    "is_def_var",
    "is_def_fn",
    "is_shared",
    "this",
    "eval",
    "import",
    "take",
    "+",
];

/// Operators that compare two values.
const COMPARISONS: [&str; 6] = ["==", "!=", "<", "<=", ">", ">="];

/// Functions that give a number.
const NUMBERS: [&str; 7] = ["kib", "mib", "gib", "seconds", "minutes", "hours", "days"];

/// Methods of a plain map that do not change it.
const READERS: [&str; 12] = [
    "keys",
    "values",
    "len",
    "is_empty",
    "contains",
    "get",
    "to_json",
    "to_string",
    "to_debug",
    "map",
    "filter",
    "index_of",
];

/// Checks a script that compiles, with the settings of its entry if it has one. Returns the problems in the order of
/// lines, each with the marked line.
///
/// # Errors
/// A syntax error.
pub(super) fn check(
    name: &str,
    source: &str,
    imported: &Imports,
    given: Option<&Value>,
    limits: &Limits,
) -> Result<Vec<PolicyError>, PolicyError> {
    let mut engine = engine::engine(limits);
    engine.set_module_resolver(imports::Resolver::new(imported));
    if name.ends_with(".test.rhai") {
        super::testing::register(&mut engine, super::Tested::default());
    }
    let ast = engine.compile(source).map_err(|error| super::diagnostic::parse(name, source, &error))?;
    let mut found: Vec<(Position, String)> = Vec::new();
    for function in ast.iter_functions() {
        let takes = if hook_of(function.name).is_some() { "ctx" } else { "settings" };
        let special = hook_of(function.name).is_some() || ["check", "wanted_files"].contains(&function.name);
        if special && function.params.len() != 1 {
            let text =
                format!("fn {} takes {} arguments; it must take one, {takes}", function.name, function.params.len());
            found.push((position_of(&ast, function.name), text));
        } else if !special && let Some(hook) = close_to_a_hook(function.name) {
            let text = format!("fn {} is not a hook and is never called; did you mean fn {hook}?", function.name);
            if !is_called(&ast, function.name) {
                found.push((position_of(&ast, function.name), text));
            }
        }
    }
    let known = Known::new(&engine, &ast, given, limits);
    walk_all(&ast, &Shapes { known: &known, config: None }, &mut found);
    Ok(sorted(name, source, found))
}

/// Checks a configuration script that compiles. `all` is a configuration that has every key, with `host` and `vars`.
pub(super) fn check_config(name: &str, source: &str, engine: &Engine, ast: &AST, all: Value) -> Vec<PolicyError> {
    let known = Known::new(engine, ast, None, &Limits::default());
    let config = Shape { value: all, name: String::new(), plain: true };
    let mut found = Vec::new();
    walk_all(ast, &Shapes { known: &known, config: Some(config) }, &mut found);
    sorted(name, source, found)
}

/// The shapes from which a check begins.
struct Shapes<'a> {
    known: &'a Known,
    /// The argument of `config`; only for a configuration script.
    config: Option<Shape>,
}

fn walk_all(ast: &AST, shapes: &Shapes, found: &mut Vec<(Position, String)>) {
    // The arguments of a function follow from its calls, whose arguments follow from those of the calling functions.
    let mut given = Given::new();
    for _ in 0..4 {
        let before = given.clone();
        walk(ast, shapes, &mut given, &mut Vec::new());
        if given == before {
            break;
        }
    }
    walk(ast, shapes, &mut given, found);
}

fn sorted(name: &str, source: &str, mut found: Vec<(Position, String)>) -> Vec<PolicyError> {
    found.sort_by_key(|(at, _)| (at.line(), at.position()));
    found.dedup();
    found.into_iter().map(|(at, text)| located("script", name, source, at, &text, &[])).collect()
}

type Given = BTreeMap<(String, usize), Option<Shape>>;

fn walk(ast: &AST, shapes: &Shapes, given: &mut Given, found: &mut Vec<(Position, String)>) {
    let mut walker =
        Walker { known: shapes.known, config: shapes.config.as_ref(), given, found, variables: BTreeMap::new() };
    let mut current: Option<String> = None;
    ast.walk(&mut |path: &[ASTNode]| {
        // The walk visits the statements of the script, then those of each function.
        if let [ASTNode::Stmt(statement)] = path {
            let at = order(statement.position());
            let function = ast.iter_fn_def().find(|function| {
                order(function.body.start_position()) <= at && at <= order(function.body.end_position())
            });
            let name = function.map(|function| function.name.to_string());
            if name != current {
                walker.enter(function.map(|function| function.as_ref()));
                current = name;
            }
        }
        walker.node(path)
    });
}

fn order(at: Position) -> (usize, usize) {
    (at.line().unwrap_or(0), at.position().unwrap_or(0))
}

/// Returns the variable at the start of a chain such as `a.b[c]`.
fn root(expression: &Expr) -> Option<&str> {
    match expression {
        Expr::Dot(chain, _, _) | Expr::Index(chain, _, _) => root(&chain.lhs),
        Expr::Variable(variable, _, _) if variable.2.is_empty() => Some(&variable.1),
        _ => None,
    }
}

/// Returns the chain that reads a key of a free map, such as `ctx.spec.labels.team`.
fn free_key(expression: &Expr) -> Option<String> {
    fn names(expression: &Expr, into: &mut Vec<String>) -> Option<()> {
        let name = match expression {
            Expr::Dot(chain, _, _) | Expr::Index(chain, _, _) => {
                names(&chain.lhs, into)?;
                return names(&chain.rhs, into);
            }
            Expr::Variable(variable, _, _) => variable.1.to_string(),
            Expr::Property(property, _) => property.2.to_string(),
            Expr::StringConstant(key, _) => key.to_string(),
            _ => return None,
        };
        into.push(name);
        Some(())
    }
    let mut all = Vec::new();
    names(expression, &mut all)?;
    let map = all.len().checked_sub(2).and_then(|at| all.get(at))?;
    super::OPEN_MAPS.contains(&map.as_str()).then(|| all.join("."))
}

struct Walker<'a> {
    known: &'a Known,
    config: Option<&'a Shape>,
    /// The shapes of script functions' arguments; none if the calls of a function differ.
    given: &'a mut Given,
    found: &'a mut Vec<(Position, String)>,
    variables: BTreeMap<String, Option<Shape>>,
}

impl Walker<'_> {
    /// Enters a function and sets the shapes of its arguments.
    fn enter(&mut self, function: Option<&rhai::ScriptFuncDef>) {
        self.variables.clear();
        let Some(function) = function else { return };
        for (index, parameter) in function.params.iter().enumerate() {
            let shape = match hook_of(&function.name) {
                _ if function.name == "config" && function.params.len() == 1 && self.config.is_some() => {
                    self.config.cloned()
                }
                Some(hook) if function.params.len() == 1 => Some(Shape::of(hook)),
                _ => self.given.get(&(function.name.to_string(), index)).cloned().flatten(),
            };
            self.variables.insert(parameter.to_string(), shape);
        }
    }

    fn node(&mut self, path: &[ASTNode]) -> bool {
        let parent = path.len().checked_sub(2).and_then(|index| path.get(index));
        match path.last() {
            Some(ASTNode::Stmt(Stmt::Var(variable, _, _))) => {
                let shape = self.shape(&variable.1);
                self.bind(&variable.0.name, shape);
            }
            Some(ASTNode::Stmt(Stmt::For(each, _))) => {
                let shape = self.shape(&each.2.expr).and_then(|list| list.element());
                self.bind(&each.0.name, shape);
            }
            Some(ASTNode::Stmt(Stmt::Assignment(assignment))) => {
                if let Expr::Variable(variable, _, _) = &assignment.1.lhs {
                    self.variables.insert(variable.1.to_string(), None);
                }
                self.is_changed(&assignment.1.lhs);
                // Operators such as `+=` are not followed.
                if !assignment.0.is_op_assignment() {
                    self.fits(&assignment.1.lhs, &assignment.1.rhs, false);
                }
            }
            Some(ASTNode::Stmt(Stmt::Switch(switch, at))) => {
                if let Some(key) = free_key(&switch.0) {
                    let text = format!(
                        "switch reads {key}, which may be missing and would then match the default; write 'switch \
                         {key} ?? \"\"'"
                    );
                    self.found.push((*at, text));
                }
            }
            Some(ASTNode::Stmt(Stmt::FnCall(call, at))) => self.call(call, *at),
            Some(ASTNode::Expr(Expr::FnCall(call, at))) => self.call(call, *at),
            Some(ASTNode::Expr(expression @ (Expr::Dot(..) | Expr::Index(..)))) => {
                // Check a chain only at its start: its right-hand side belongs to it.
                let inside = match parent {
                    Some(ASTNode::Expr(Expr::Dot(chain, _, _) | Expr::Index(chain, _, _))) => {
                        std::ptr::eq(&raw const chain.rhs, *expression)
                    }
                    _ => false,
                };
                if !inside {
                    self.chain_of(expression, true);
                }
            }
            _ => {}
        }
        true
    }

    /// Forgets the shape of a changed copy of a constant, which may have other keys than the constant.
    fn is_changed(&mut self, expression: &Expr) {
        let Some(name) = root(expression) else { return };
        if let Some(shape) = self
            .variables
            .get_mut(name)
            .filter(|shape| shape.as_ref().is_some_and(|shape| shape.plain && !shape.name.is_empty()))
        {
            *shape = None;
        }
    }

    /// Binds a variable. A variable with two different shapes counts as unknown.
    fn bind(&mut self, name: &str, shape: Option<Shape>) {
        let clash = self.variables.get(name).is_some_and(|old| *old != shape);
        self.variables.insert(name.to_owned(), if clash { None } else { shape });
    }

    fn call(&mut self, call: &FnCallExpr, at: Position) {
        let name = call.name.as_str();
        if let (true, [left, right]) = (COMPARISONS.contains(&name), call.args.as_slice()) {
            self.fits(left, right, true);
            self.fits(right, left, true);
        }
        let operator = call.op_token.is_some() || !name.starts_with(|c: char| c.is_alphabetic() || c == '_');
        if operator || !call.namespace.is_empty() || KEYWORDS.contains(&name) {
            return;
        }
        if let Some(text) = self.known.wrong(name, call.args.len(), false) {
            self.found.push((at, text));
        }
        for (index, argument) in call.args.iter().enumerate() {
            let shape = self.shape(argument);
            let key = (name.to_owned(), index);
            let differs = self.given.get(&key).is_some_and(|old| *old != shape);
            self.given.insert(key, if differs { None } else { shape });
        }
    }

    /// Checks the kind of a value that is assigned to a field of `ctx`, or compared with one.
    fn fits(&mut self, field: &Expr, value: &Expr, compared: bool) {
        let Some(given) = self.value(value) else { return };
        let Some(shape) = self.shape(field).filter(|shape| !shape.plain && !shape.name.is_empty()) else { return };
        if compared && shape.value.is_number() && given.is_number() {
            return;
        }
        if let Some(text) = fields::misfit(&shape.name, &shape.value, &given) {
            self.found.push((value.start_position(), text));
        }
    }

    /// Returns the value of an expression, as far as its text tells it. A call of a function that gives a size or a
    /// duration stands for any number.
    fn value(&self, expression: &Expr) -> Option<Value> {
        match expression {
            Expr::BoolConstant(value, _) => Some((*value).into()),
            Expr::IntegerConstant(value, _) => Some((*value).into()),
            Expr::FloatConstant(value, _) => Some((**value).into()),
            Expr::StringConstant(value, _) => Some(value.as_str().into()),
            Expr::Array(..) => Some(Value::Array(Vec::new())),
            Expr::Map(..) => Some(Value::Object(serde_json::Map::new())),
            Expr::Variable(variable, _, _) if variable.2.to_string() == "global" => {
                Some(self.known.constants.get(variable.1.as_str())?.value.clone())
            }
            Expr::FnCall(call, _) if NUMBERS.contains(&call.name.as_str()) => Some(1.into()),
            _ => None,
        }
    }

    /// Returns the shape of an expression, if it is known.
    fn shape(&mut self, expression: &Expr) -> Option<Shape> {
        match expression {
            Expr::Variable(variable, _, _) if variable.2.is_empty() => {
                self.variables.get(variable.1.as_str()).cloned().flatten()
            }
            Expr::Variable(variable, _, _) if variable.2.to_string() == "global" => {
                self.known.constants.get(variable.1.as_str()).cloned()
            }
            Expr::Dot(..) | Expr::Index(..) => self.chain_of(expression, false),
            _ => None,
        }
    }

    fn chain_of(&mut self, expression: &Expr, tell: bool) -> Option<Shape> {
        match expression {
            Expr::Dot(chain, flags, _) => {
                if let Expr::MethodCall(call, _) = &chain.rhs
                    && !READERS.contains(&call.name.as_str())
                {
                    self.is_changed(expression);
                }
                let base = self.shape(&chain.lhs);
                self.chain(base, true, &chain.rhs, flags.intersects(ASTFlags::BREAK), tell)
            }
            Expr::Index(chain, flags, _) => {
                let base = self.shape(&chain.lhs);
                self.chain(base, false, &chain.rhs, flags.intersects(ASTFlags::BREAK), tell)
            }
            _ => None,
        }
    }

    /// Checks one link of a chain: the part after a dot (or in brackets), and the rest.
    fn chain(&mut self, base: Option<Shape>, dot: bool, right: &Expr, ends: bool, tell: bool) -> Option<Shape> {
        let (head, rest) = match right {
            Expr::Dot(chain, flags, _) if !ends => (&chain.lhs, Some((true, &chain.rhs, *flags))),
            Expr::Index(chain, flags, _) if !ends => (&chain.lhs, Some((false, &chain.rhs, *flags))),
            head => (head, None),
        };
        let next = match head {
            Expr::Property(property, at) if dot => self.member(base.as_ref()?, &property.2, *at, tell)?,
            Expr::MethodCall(call, at) if dot => {
                let wrong = self.known.wrong(&call.name, call.args.len() + 1, true);
                if let (Some(text), true, false) = (wrong, tell, KEYWORDS.contains(&call.name.as_str())) {
                    self.found.push((*at, text));
                }
                return None;
            }
            Expr::StringConstant(key, at) if !dot => self.member(base.as_ref()?, key, *at, tell)?,
            _ if !dot => base.as_ref()?.element()?,
            _ => return None,
        };
        match rest {
            None => Some(next),
            Some((dot, right, flags)) => self.chain(Some(next), dot, right, flags.intersects(ASTFlags::BREAK), tell),
        }
    }

    fn member(&mut self, base: &Shape, name: &str, at: Position, tell: bool) -> Option<Shape> {
        if base.name.is_empty() && name == settings::NAME.to_lowercase() {
            return self.known.settings.clone();
        }
        let is_variable = self.config.is_some() && base.name == "vars" && !self.known.texts.contains(name);
        if is_variable && base.value.get(name).is_none() {
            if tell {
                self.found.push((at, undeclared_variable(name)));
            }
            return None;
        }
        match base.member(name) {
            Ok(shape) => shape,
            // A key that the script queries elsewhere may be missing.
            Err(_) if base.plain && self.known.texts.contains(name) => None,
            Err(_) if self.config.is_some() && base.name == "vars" => None,
            Err(known) => {
                if tell {
                    let whole = if base.name.is_empty() { name.to_owned() } else { format!("{}.{name}", base.name) };
                    let near = known.iter().find(|known| near(known, name));
                    let hint = near.map_or(String::new(), |near| format!("; did you mean '{near}'?"));
                    self.found.push((at, format!("there is no '{whole}'; the keys are {}{hint}", known.join(", "))));
                }
                None
            }
        }
    }
}

fn close_to_a_hook(name: &str) -> Option<&'static str> {
    let hooks = crate::hooks::Hook::ALL.into_iter().map(crate::hooks::Hook::function);
    let plain = name.replace('-', "_").to_lowercase();
    hooks.into_iter().find(|hook| near(hook, name) || hook.replace('_', "") == plain.replace('_', ""))
}

fn is_called(ast: &AST, name: &str) -> bool {
    let mut called = false;
    ast.walk(&mut |path: &[ASTNode]| {
        if let Some(
            ASTNode::Stmt(Stmt::FnCall(call, _)) | ASTNode::Expr(Expr::FnCall(call, _) | Expr::MethodCall(call, _)),
        ) = path.last()
        {
            called |= call.name == name;
        }
        true
    });
    called
}

fn position_of(ast: &AST, name: &str) -> Position {
    let function = ast.iter_fn_def().find(|function| function.name == name);
    function.map_or(Position::NONE, |function| function.body.start_position())
}
