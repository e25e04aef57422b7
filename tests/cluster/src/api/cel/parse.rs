//! From text to a tree.

use serde_json::Value;

/// An expression.
#[derive(Clone, Debug)]
pub(super) enum Tree {
    Known(Value),
    Name(String),
    List(Vec<Tree>),
    Map(Vec<(Tree, Tree)>),
    /// A field; optional ones are null where absent.
    Field {
        of: Box<Tree>,
        name: String,
        optional: bool,
    },
    Index {
        of: Box<Tree>,
        at: Box<Tree>,
        optional: bool,
    },
    Call {
        on: Option<Box<Tree>>,
        name: String,
        given: Vec<Tree>,
    },
    Not(Box<Tree>),
    Minus(Box<Tree>),
    Two {
        sign: &'static str,
        left: Box<Tree>,
        right: Box<Tree>,
    },
    Choice {
        test: Box<Tree>,
        yes: Box<Tree>,
        no: Box<Tree>,
    },
}

#[derive(Clone, Debug, PartialEq)]
enum Token {
    Known(Value),
    Name(String),
    Sign(&'static str),
}

struct Parser {
    tokens: Vec<Token>,
    next: usize,
    depth: usize,
}

type Parsed<T> = Result<T, String>;

/// Longer signs first, so that `<=` is not read as `<`.
const SIGNS: &[&str] = &[
    "&&", "||", "==", "!=", "<=", ">=", "?.", "[?", "<", ">", "+", "-", "*", "/", "%", "!", "?", ":", "(",
    ")", "[", "]", "{", "}", ",", ".",
];

/// Loosest first.
const LEVELS: &[&[&str]] = &[
    &["||"],
    &["&&"],
    &["==", "!=", "<", "<=", ">", ">=", "in"],
    &["+", "-"],
    &["*", "/", "%"],
];

/// Nesting beyond this is refused rather than followed.
const DEPTH: usize = 60;

pub(super) fn parse(text: &str) -> Parsed<Tree> {
    let mut parser = Parser {
        tokens: tokens(text)?,
        next: 0,
        depth: 0,
    };
    let tree = parser.choice()?;
    match parser.peek() {
        None => Ok(tree),
        Some(token) => Err(format!("unexpected {token:?}")),
    }
}

fn tokens(text: &str) -> Parsed<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut rest = text.trim_start();
    while let Some(first) = rest.chars().next() {
        let (token, after) = if first == '\'' || first == '"' {
            string(rest, first, false)?
        } else if first == 'r' && (rest[1..].starts_with('\'') || rest[1..].starts_with('"')) {
            let quote = if rest[1..].starts_with('"') { '"' } else { '\'' };
            string(&rest[1..], quote, true)?
        } else if first.is_ascii_digit() {
            number(rest)?
        } else if first.is_alphabetic() || first == '_' {
            let end = rest
                .find(|letter: char| !letter.is_alphanumeric() && letter != '_')
                .unwrap_or(rest.len());
            (word(&rest[..end]), &rest[end..])
        } else {
            let sign = SIGNS
                .iter()
                .find(|sign| rest.starts_with(**sign))
                .ok_or(format!("unexpected {first:?}"))?;
            (Token::Sign(sign), &rest[sign.len()..])
        };
        tokens.push(token);
        rest = after.trim_start();
    }
    Ok(tokens)
}

fn word(text: &str) -> Token {
    match text {
        "true" => Token::Known(true.into()),
        "false" => Token::Known(false.into()),
        "null" => Token::Known(Value::Null),
        "in" => Token::Sign("in"),
        name => Token::Name(name.into()),
    }
}

fn number(text: &str) -> Parsed<(Token, &str)> {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit() && letter != '.')
        .unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    let rest = rest.strip_prefix('u').unwrap_or(rest);
    let value: Value = serde_json::from_str(digits).map_err(|_| format!("{digits:?} is not a number"))?;
    Ok((Token::Known(value), rest))
}

fn string(text: &str, quote: char, raw: bool) -> Parsed<(Token, &str)> {
    let mut made = String::new();
    let mut letters = text.char_indices().skip(1);
    while let Some((index, letter)) = letters.next() {
        match letter {
            '\\' if !raw => match letters.next() {
                Some((_, 'n')) => made.push('\n'),
                Some((_, 't')) => made.push('\t'),
                Some((_, other)) => made.push(other),
                None => break,
            },
            end if end == quote => return Ok((Token::Known(made.into()), &text[index + 1..])),
            other => made.push(other),
        }
    }
    Err("a string without an end".into())
}

impl Parser {
    fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next)
    }

    fn take(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Some(Token::Sign(found)) if *found == sign);
        self.next += usize::from(found);
        found
    }

    fn want(&mut self, sign: &str) -> Parsed<()> {
        if self.take(sign) {
            Ok(())
        } else {
            Err(format!("{sign:?} is missing before {:?}", self.peek()))
        }
    }

    fn name(&mut self) -> Parsed<String> {
        match self.peek().cloned() {
            Some(Token::Name(name)) => {
                self.next += 1;
                Ok(name)
            }
            Some(Token::Sign("in")) => {
                self.next += 1;
                Ok("in".into())
            }
            other => Err(format!("a name is missing before {other:?}")),
        }
    }

    fn choice(&mut self) -> Parsed<Tree> {
        self.depth += 1;
        if self.depth > DEPTH {
            return Err("nested too deep".into());
        }
        let test = self.binary(0)?;
        let tree = if self.take("?") {
            let yes = self.choice()?.into();
            self.want(":")?;
            Tree::Choice {
                test: test.into(),
                yes,
                no: self.choice()?.into(),
            }
        } else {
            test
        };
        self.depth -= 1;
        Ok(tree)
    }

    fn binary(&mut self, level: usize) -> Parsed<Tree> {
        let Some(signs) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut left = self.binary(level + 1)?;
        while let Some(&sign) = signs
            .iter()
            .find(|sign| matches!(self.peek(), Some(Token::Sign(found)) if found == *sign))
        {
            self.next += 1;
            let right = self.binary(level + 1)?.into();
            left = Tree::Two {
                sign,
                left: left.into(),
                right,
            };
        }
        Ok(left)
    }

    fn unary(&mut self) -> Parsed<Tree> {
        let mut signs = Vec::new();
        while matches!(self.peek(), Some(Token::Sign("!" | "-"))) {
            signs.push(self.take("!"));
            if signs.last() == Some(&false) {
                self.next += 1;
            }
        }
        let inner = self.member()?;
        Ok(signs.into_iter().rev().fold(inner, |tree, not| {
            if not {
                Tree::Not(tree.into())
            } else {
                Tree::Minus(tree.into())
            }
        }))
    }

    fn member(&mut self) -> Parsed<Tree> {
        let mut tree = self.primary()?;
        loop {
            let optional = self.take("?.");
            if optional || self.take(".") {
                let optional = optional || self.take("?");
                let name = self.name()?;
                tree = if self.take("(") {
                    Tree::Call {
                        on: Some(tree.into()),
                        name,
                        given: self.list(")")?,
                    }
                } else {
                    Tree::Field {
                        of: tree.into(),
                        name,
                        optional,
                    }
                };
            } else if matches!(self.peek(), Some(Token::Sign("[" | "[?"))) {
                let optional = self.take("[?");
                let _plain = !optional && self.take("[");
                let at = self.choice()?.into();
                self.want("]")?;
                tree = Tree::Index {
                    of: tree.into(),
                    at,
                    optional,
                };
            } else if matches!(self.peek(), Some(Token::Sign("{"))) && message(&tree) {
                self.next += 1;
                tree = Tree::Map(self.fields()?);
            } else {
                return Ok(tree);
            }
        }
    }

    fn primary(&mut self) -> Parsed<Tree> {
        if self.take("(") {
            let inner = self.choice()?;
            self.want(")")?;
            return Ok(inner);
        }
        if self.take("[") {
            return self.list("]").map(Tree::List);
        }
        if self.take("{") {
            return self.entries().map(Tree::Map);
        }
        let token = self.peek().cloned();
        self.next += 1;
        match token {
            Some(Token::Known(value)) => Ok(Tree::Known(value)),
            Some(Token::Name(name)) if self.take("(") => Ok(Tree::Call {
                on: None,
                name,
                given: self.list(")")?,
            }),
            Some(Token::Name(name)) => Ok(Tree::Name(name)),
            other => Err(format!("a value is missing before {other:?}")),
        }
    }

    fn list(&mut self, end: &str) -> Parsed<Vec<Tree>> {
        let mut all = Vec::new();
        while !self.take(end) {
            all.push(self.choice()?);
            if !self.take(",") {
                self.want(end)?;
                break;
            }
        }
        Ok(all)
    }

    fn entries(&mut self) -> Parsed<Vec<(Tree, Tree)>> {
        let mut all = Vec::new();
        while !self.take("}") {
            let key = self.choice()?;
            self.want(":")?;
            all.push((key, self.choice()?));
            if !self.take(",") {
                self.want("}")?;
                break;
            }
        }
        Ok(all)
    }

    fn fields(&mut self) -> Parsed<Vec<(Tree, Tree)>> {
        let mut all = Vec::new();
        while !self.take("}") {
            let key = Tree::Known(self.name()?.into());
            self.want(":")?;
            all.push((key, self.choice()?));
            if !self.take(",") {
                self.want("}")?;
                break;
            }
        }
        Ok(all)
    }
}

/// Whether the tree is a message's type, as in `Object.metadata{...}`.
fn message(tree: &Tree) -> bool {
    match tree {
        Tree::Name(name) => name == "Object" || name == "JSONPatch",
        Tree::Field { of, .. } => message(of),
        _ => false,
    }
}
