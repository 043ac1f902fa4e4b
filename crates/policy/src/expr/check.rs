//! Checks the syntax tree of an expression.

use std::collections::BTreeSet;

use cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, Expr, LiteralValue, SelectExpr, operators as op},
};

use super::{
    comparison::{check_decimals, check_ordering},
    cost,
    functions::{self, StaticType},
    infer::{infer, is_whole_object, path},
    objects::MAX_ITEMS,
    pattern::check_pattern,
    scope::Scope,
};
use crate::diagnostic::Diagnostic;

const MAX_NODES: usize = 2_000;
/// Unoptimised, the interpreter takes about 40 kB of stack per level.
const MAX_DEPTH: usize = 20;
/// How deep `all`, `exists`, `map` and `filter` may be nested.
const MAX_LOOPS: usize = 2;

/// What a checked expression refers to.
#[derive(Debug, Default)]
pub(super) struct Checked {
    pub(super) roots: Vec<&'static str>,
    pub(super) tools: Vec<String>,
    /// The fields that it reads, such as `action.arguments.amount`.
    pub(super) paths: BTreeSet<String>,
    /// Steps that an evaluation can take, see [`cost`].
    pub(super) cost: u64,
}

/// Checks an expression.
pub(super) fn check(expression: &IdedExpr, scope: &'static Scope) -> Result<Checked, Vec<Diagnostic>> {
    let mut walk = Walk {
        scope,
        variables: Vec::new(),
        nodes: 0,
        loops: Vec::new(),
        cost: 0,
        roots: BTreeSet::new(),
        paths: BTreeSet::new(),
        tools: Vec::new(),
        diagnostics: Vec::new(),
    };
    walk.value(expression, 0);
    walk.within_cost();
    if !walk.diagnostics.is_empty() {
        return Err(walk.diagnostics);
    }
    let roots = walk.roots.into_iter().collect();
    Ok(Checked { roots, tools: walk.tools, paths: walk.paths, cost: walk.cost })
}

struct Walk<'e> {
    scope: &'static Scope,
    variables: Vec<&'e str>,
    nodes: usize,
    /// The most rounds of each loop around the present place.
    loops: Vec<u64>,
    cost: u64,
    roots: BTreeSet<&'static str>,
    paths: BTreeSet<String>,
    tools: Vec<String>,
    diagnostics: Vec<Diagnostic>,
}

impl<'e> Walk<'e> {
    fn report(&mut self, message: impl Into<String>, help: impl Into<String>) {
        self.require(Err(Diagnostic::new(message, help)));
    }

    fn require(&mut self, checked: Result<(), Diagnostic>) {
        if let Err(diagnostic) = checked
            && !self.diagnostics.contains(&diagnostic)
        {
            self.diagnostics.push(diagnostic);
        }
    }

    /// Adds the cost of what runs once per iteration of the loops around it.
    fn costs(&mut self, steps: u64) {
        let rounds = self.loops.iter().fold(1_u64, |rounds, loops| rounds.saturating_mul(*loops));
        self.cost = self.cost.saturating_add(steps.saturating_mul(rounds));
    }

    fn within_cost(&mut self) {
        if self.cost > cost::MAX {
            self.report(
                format!("evaluating the expression can take {} steps", self.cost),
                format!(
                    "keep it within {} steps: simplify nested loops, and do not search strings or lists in them",
                    cost::MAX
                ),
            );
        }
    }

    /// An expression used as a value.
    fn value(&mut self, node: &'e IdedExpr, depth: usize) {
        if !self.scope.whole_objects && is_whole_object(&node.expr) {
            self.report(
                format!("{} is used as a whole value", path(&node.expr)),
                "use its fields: an object cannot be compared or put in a list",
            );
        }
        self.part(node, depth);
    }

    /// An expression of which only a part is used: a field, an item or the size.
    fn part(&mut self, node: &'e IdedExpr, depth: usize) {
        let path = path(&node.expr);
        if path.split_once('.').is_some_and(|(root, _)| !self.variables.contains(&root)) {
            self.paths.insert(path);
        }
        self.nodes += 1;
        self.costs(1);
        if self.nodes > MAX_NODES || depth > MAX_DEPTH {
            return self.report(
                format!("the expression has more than {MAX_NODES} nodes or {MAX_DEPTH} levels"),
                "split the rule into two",
            );
        }
        match &node.expr {
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) => self.select(select, depth + 1),
            Expr::Call(call) => self.call(call, depth + 1),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension, depth + 1),
            Expr::List(list) => list.elements.iter().for_each(|item| self.value(item, depth + 1)),
            Expr::Literal(_) => {}
            Expr::Map(_) | Expr::Struct(_) | Expr::Unspecified => self.report(
                "an expression cannot contain an object literal",
                "compare fields one by one: action.arguments.a == 1 && action.arguments.b == 2",
            ),
        }
    }

    fn ident(&mut self, name: &'e str) {
        // The accumulators of macros begin with @, which CEL does not allow in a name that somebody writes.
        if name.starts_with('@') || self.variables.contains(&name) {
            return;
        }
        match self.scope.roots.iter().find(|root| root.name == name) {
            Some(root) => {
                self.roots.insert(root.name);
            }
            None => {
                let known: Vec<_> = self.scope.roots.iter().map(|root| root.name).collect();
                self.report(
                    format!("unknown name {name:?}"),
                    format!("use {}, or put it in quotes if it is a string", known.join(", ")),
                );
            }
        }
    }

    fn select(&mut self, select: &'e SelectExpr, depth: usize) {
        if let Expr::Ident(name) = &select.operand.expr
            && !self.variables.contains(&name.as_str())
            && let Some(root) = self.scope.roots.iter().find(|root| root.name == name)
            && !root.fields.is_empty()
            && !root.fields.contains(&select.field.as_str())
        {
            self.report(
                format!("{name} has no field {:?}", select.field),
                format!("use {name}.{}", root.fields.join(&format!(", {name}."))),
            );
        }
        self.part(&select.operand, depth);
    }

    fn comprehension(&mut self, comprehension: &'e ComprehensionExpr, depth: usize) {
        self.part(&comprehension.iter_range, depth);
        if !matches!(comprehension.iter_range.expr, Expr::List(_)) {
            self.costs(cost::RANGE);
        }
        let named = [Some(&comprehension.iter_var), comprehension.iter_var2.as_ref()];
        let before = self.variables.len();
        for name in named.into_iter().flatten() {
            if self.scope.roots.iter().any(|root| root.name == name) {
                self.report(format!("the loop variable {name} shadows {name}"), "choose another name");
            }
            self.variables.push(name);
        }
        if !self.scope.loops {
            self.report(
                "a compensation cannot loop with all, exists, map or filter",
                "pass the whole list: an agent could send one that is too long to loop over, and never be undone",
            );
        }
        self.loops.push(cost::rounds(&comprehension.iter_range));
        if self.loops.len() > MAX_LOOPS {
            self.report(
                format!("all, exists, map or filter are nested more than {MAX_LOOPS} deep"),
                "have the agent send the value that the condition needs in a field of its own",
            );
        } else {
            for part in [&comprehension.accu_init, &comprehension.loop_cond, &comprehension.loop_step] {
                self.value(part, depth);
            }
            self.value(&comprehension.result, depth);
        }
        self.loops.pop();
        self.variables.truncate(before);
    }

    fn call(&mut self, call: &'e CallExpr, depth: usize) {
        let name = call.func_name.as_str();
        match (name, call.args.as_slice()) {
            (op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS, [left, right]) => {
                self.require(check_ordering(left, right));
            }
            (op::EQUALS | op::NOT_EQUALS, [left, right]) => {
                self.require(check_decimals(left, right));
                self.costs(cost::comparison(left, right, &self.variables));
                self.tool_names(left, right);
                self.tool_names(right, left);
            }
            (op::IN, [item, list]) => {
                if infer(item) == StaticType::Decimal {
                    self.report(
                        "a decimal() cannot be looked up in a list",
                        "compare it to each decimal(..) with ==",
                    );
                }
                self.tool_names(item, list);
                self.costs(cost::lookup(list));
                self.value(item, depth);
                return self.part(list, depth);
            }
            (op::INDEX, [object, index]) => {
                self.value(index, depth);
                return self.part(object, depth);
            }
            (op::ADD, [left, right]) => self.addition(left, right),
            (op::DIVIDE | op::MODULO, [left, right]) => {
                if infer(left) == StaticType::Decimal || infer(right) == StaticType::Decimal {
                    self.report("a decimal() cannot be divided", "multiply the other side instead");
                }
            }
            (
                op::CONDITIONAL
                | op::LOGICAL_AND
                | op::LOGICAL_OR
                | op::LOGICAL_NOT
                | op::NOT_STRICTLY_FALSE
                | op::SUBSTRACT
                | op::MULTIPLY
                | op::NEGATE,
                _,
            ) => {}
            _ => return self.function(call, depth),
        }
        call.args.iter().for_each(|argument| self.value(argument, depth));
    }

    fn function(&mut self, call: &'e CallExpr, depth: usize) {
        let name = call.func_name.as_str();
        if functions::return_type(name, call.target.is_some(), call.args.len()).is_none() {
            self.report(
                format!("there is no function {name} with this form"),
                format!("use one of {}", functions::names()),
            );
        }
        match name {
            "matches" => {
                self.costs(cost::PATTERN);
                self.require(check_pattern(call.args.last()));
            }
            "contains" | "timestamp" | "duration" => self.costs(cost::SEARCH),
            "startsWith" | "endsWith" | "size" => self.costs(cost::TEXT),
            "decimal_sum" => self.costs(MAX_ITEMS as u64),
            _ => {}
        }
        let parts_only = name == "size";
        for argument in call.target.iter().map(AsRef::as_ref).chain(&call.args) {
            if parts_only { self.part(argument, depth) } else { self.value(argument, depth) }
        }
    }

    /// Joining strings in a loop could build a value far larger than the message.
    fn addition(&mut self, left: &IdedExpr, right: &IdedExpr) {
        let of_macro = matches!(&left.expr, Expr::Ident(name) if name.starts_with('@'));
        let counts = |side| matches!(infer(side), StaticType::Decimal | StaticType::NotText);
        if of_macro || counts(left) || counts(right) {
            return;
        }
        self.costs(cost::joining(left, right));
        if !self.loops.is_empty() {
            self.report(
                "+ may join strings or lists inside all, exists, map or filter",
                "write decimal(..) or int(..) around numbers, or join outside of the loop",
            );
        }
    }

    /// Remembers the tools in `tool.name == "x"` and `action.tool in ["x"]`, so that misspelt ones are found.
    fn tool_names(&mut self, side: &IdedExpr, other: &IdedExpr) {
        if !matches!(path(&side.expr).as_str(), "tool.name" | "action.tool") {
            return;
        }
        let items = match &other.expr {
            Expr::List(list) => list.elements.as_slice(),
            _ => std::slice::from_ref(other),
        };
        for item in items {
            if let Expr::Literal(LiteralValue::String(name)) = &item.expr {
                self.tools.push(name.inner().to_owned());
            }
        }
    }
}
