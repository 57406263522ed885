//! Matching and comparing globs in time proportional to the product of the two lengths, whatever they hold.
//!
//! No backtracking: a set of positions is carried along the text. A pattern of a policy may come from whoever
//! administers a namespace, and an image name from whoever makes pods.

/// How many steps a comparison of patterns may still take; see [`Glob::overlaps`].
pub(crate) type Steps = u64;

/// Literal characters up to the first wildcard, and what follows.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Glob {
    prefix: Box<[u8]>,
    /// Empty, or beginning with a wildcard.
    rest: Box<[Token]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Token {
    Literal(u8),
    /// Any run of characters other than the slash.
    Star,
    /// Any run of characters.
    Globstar,
}

impl Token {
    const fn is_wildcard(self) -> bool {
        matches!(self, Self::Star | Self::Globstar)
    }

    /// Whether this is a wildcard that may stand for `byte`.
    const fn covers(self, byte: u8) -> bool {
        match self {
            Self::Literal(_) => false,
            Self::Star => byte != b'/',
            Self::Globstar => true,
        }
    }

    /// Whether this is a wildcard that may stand for the literal `other`.
    const fn covers_token(self, other: Self) -> bool {
        match other {
            Self::Literal(byte) => self.covers(byte),
            Self::Star | Self::Globstar => false,
        }
    }
}

impl Glob {
    /// Reads a text whose every `**` is a [`Token::Globstar`] and every other `*` a [`Token::Star`].
    pub(super) fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let (prefix, mut rest) = bytes.split_at(bytes.iter().take_while(|&&b| b != b'*').count());
        let mut tokens = Vec::with_capacity(rest.len());
        while let Some((&first, tail)) = rest.split_first() {
            let (token, tail) = match (first, tail.strip_prefix(b"*")) {
                (b'*', Some(tail)) => (Token::Globstar, tail),
                (b'*', None) => (Token::Star, tail),
                _ => (Token::Literal(first), tail),
            };
            tokens.push(token);
            rest = tail;
        }
        Self {
            prefix: prefix.into(),
            rest: tokens.into(),
        }
    }

    /// The literal characters before the first wildcard.
    pub(super) const fn prefix(&self) -> &[u8] {
        &self.prefix
    }

    /// How many literal characters, `*` and `**` there are.
    pub(super) fn census(&self) -> (usize, usize, usize) {
        let count = |wanted: Token| self.rest.iter().filter(|&&token| token == wanted).count();
        let (stars, globstars) = (count(Token::Star), count(Token::Globstar));
        let literals = self.prefix.len() + self.rest.len() - stars - globstars;
        (literals, stars, globstars)
    }

    /// Whether the whole of `text` matches.
    pub(super) fn matches(&self, text: &str) -> bool {
        let Some(text) = text.as_bytes().strip_prefix(self.prefix.as_ref()) else {
            return false;
        };
        let mut positions = self.start();
        for &byte in text {
            positions = self.advance(&positions, byte);
        }
        positions.last().copied().unwrap_or_default()
    }

    /// `positions[i]`: what was read may be followed by token `i`; the last one: the glob may end here.
    fn start(&self) -> Vec<bool> {
        let mut positions = Vec::with_capacity(self.rest.len() + 1);
        let mut reached = true;
        for token in &self.rest {
            positions.push(reached);
            reached = reached && token.is_wildcard();
        }
        positions.push(reached);
        positions
    }

    fn advance(&self, positions: &[bool], byte: u8) -> Vec<bool> {
        let mut next = Vec::with_capacity(positions.len());
        let mut reached = false;
        for (token, &here) in self.rest.iter().zip(positions) {
            let stays = reached || (here && token.covers(byte));
            next.push(stays);
            // A wildcard may end at any time; a literal is passed by reading it.
            reached = match token {
                Token::Literal(literal) => here && *literal == byte,
                Token::Star | Token::Globstar => stays,
            };
        }
        next.push(reached);
        next
    }

    /// Whether some text matches both globs; it need not be a well-formed name. `None` if finding out would take
    /// more steps than are left: one for each pair of their characters.
    ///
    /// A text that both match stays so when characters that both read as wildcards are taken out. So it suffices to
    /// look for one in which each character is a literal of at least one of them: walk both globs at once, and let
    /// a wildcard of one read literals of the other.
    pub(super) fn overlaps(&self, other: &Self, steps: &mut Steps) -> Option<bool> {
        let (rows, columns): (Vec<_>, Vec<_>) = (self.tokens().collect(), other.tokens().collect());
        let cost = Steps::try_from((rows.len() + 1) * (columns.len() + 1)).ok()?;
        *steps = steps.checked_sub(cost)?;
        let mut row = vec![false; columns.len() + 1];
        if let Some(origin) = row.first_mut() {
            *origin = true;
        }
        for token in rows {
            row = descend(&row, token, &columns);
        }
        Some(ends(&row, &columns))
    }

    fn tokens(&self) -> impl Iterator<Item = Token> {
        let prefix = self.prefix.iter().map(|&byte| Token::Literal(byte));
        prefix.chain(self.rest.iter().copied())
    }
}

/// `row[j]`: one glob stands before `token`, the other before its token `j`. The same after `token`.
fn descend(row: &[bool], token: Token, columns: &[Token]) -> Vec<bool> {
    let mut next = Vec::with_capacity(row.len());
    let (mut slid, mut both) = (false, false);
    for (j, &reached) in row.iter().enumerate() {
        let here = reached || slid;
        let column = columns.get(j).copied();
        let down = token.is_wildcard() || column.is_some_and(|column| column.covers_token(token));
        next.push(both || (here && down));
        slid = here && column.is_some_and(|column| column.is_wildcard() || token.covers_token(column));
        both = here && column == Some(token) && !token.is_wildcard();
    }
    next
}

/// Whether the other glob can end where this one has: what is left of it are wildcards only.
fn ends(row: &[bool], columns: &[Token]) -> bool {
    let mut reached = false;
    for (&here, column) in row.iter().zip(columns) {
        reached = (reached || here) && column.is_wildcard();
    }
    reached || row.last().copied().unwrap_or_default()
}
