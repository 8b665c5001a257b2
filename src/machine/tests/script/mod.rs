//! Parsing and running a script.

mod commands;

use commands::Commands;

/// A step of a script: comment lines above it, the command, and what it takes more.
#[derive(Debug, Default)]
pub struct Step {
    comments: Vec<String>,
    pub command: Line,
    pub more: Vec<Line>,
}

/// A line of words, some of which have values: `start id=wf queue=q eager`.
#[derive(Debug, Default, Clone)]
pub struct Line {
    text: String,
    words: Vec<String>,
}

#[derive(Debug)]
pub struct Script {
    steps: Vec<Step>,
}

impl Script {
    pub fn parse(text: &str) -> Self {
        let mut steps = Vec::new();
        let mut step = Step::default();
        let mut printed = false;
        for line in text.lines() {
            if line.is_empty() {
                if printed || !step.command.words.is_empty() {
                    steps.push(std::mem::take(&mut step));
                }
                printed = false;
            } else if printed {
                continue;
            } else if line == "----" {
                printed = true;
            } else if line.starts_with('#') {
                step.comments.push(line.to_string());
            } else if line.starts_with(' ') {
                step.more.push(Line::parse(line));
            } else {
                step.command = Line::parse(line);
            }
        }
        if printed || !step.command.words.is_empty() {
            steps.push(step);
        }
        Self { steps }
    }

    /// Runs the script; returns it with the outcomes as they are now.
    pub fn run(&self, name: &str) -> String {
        let mut commands = Commands::default();
        let mut out = String::new();
        for step in &self.steps {
            for comment in &step.comments {
                out.push_str(&format!("{comment}\n"));
            }
            if step.command.words.is_empty() {
                continue;
            }
            out.push_str(&format!("{}\n", step.command.text));
            for line in &step.more {
                out.push_str(&format!("{}\n", line.text));
            }
            let printed = commands.run(step, name);
            out.push_str(&format!("----\n{printed}\n"));
        }
        out
    }
}

impl Line {
    fn parse(text: &str) -> Self {
        let mut words = Vec::new();
        let mut word = String::new();
        let mut quoted = false;
        for c in text.trim().chars() {
            match c {
                '"' => quoted = !quoted,
                ' ' if !quoted => words.push(std::mem::take(&mut word)),
                c => word.push(c),
            }
        }
        words.push(word);
        words.retain(|word| !word.is_empty());
        Self { text: text.to_string(), words }
    }

    pub fn name(&self) -> &str {
        self.words.first().map_or("", |word| word)
    }

    /// The second word.
    pub fn what(&self) -> &str {
        self.words.get(1).map_or("", |word| word)
    }

    pub fn has(&self, word: &str) -> bool {
        self.words.iter().any(|known| known == word)
    }

    pub fn value(&self, key: &str) -> Option<&str> {
        self.words.iter().find_map(|word| word.strip_prefix(key)?.strip_prefix('='))
    }

    pub fn or(&self, key: &str, default: &str) -> String {
        self.value(key).unwrap_or(default).to_string()
    }

    pub fn number(&self, key: &str) -> Option<i64> {
        self.value(key).map(|value| value.parse().unwrap_or_else(|_| panic!("no number: {value} in {}", self.text)))
    }

    /// A time span: `1.5s`, `2m`, `1h`.
    pub fn nanos(&self, key: &str) -> Option<i64> {
        self.value(key).map(|value| span(value).unwrap_or_else(|| panic!("no time: {value} in {}", self.text)))
    }
}

pub fn span(text: &str) -> Option<i64> {
    let units = [("ms", 1_000_000.0), ("s", 1e9), ("m", 60e9), ("h", 3_600e9)];
    let (number, unit) = units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit)))?;
    number.parse::<f64>().ok().map(|number| (number * unit).round() as i64)
}
