//! The page tables a guest starts with: which page is a table, and what each entry leads to. Pages are pseudo-physical
//! throughout; frames are the builder's business.

/// How far to shift an address for the number of the table of level 3, 2 or 1 it lies in.
const SHIFTS: [u32; 3] = [39, 30, 21];
const PAGE_SHIFT: u32 = 12;

/// One entry to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// The page of the table it is in.
    pub table: u64,
    /// Its place there, below 512.
    pub index: u64,
    /// The page it leads to: a table, or a page that is mapped.
    pub to: u64,
    /// Whether the guest may write through it.
    pub writable: bool,
}

/// A set of tables: their pages, level by level from level 3, each level without gaps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tables {
    /// The first page.
    pub(crate) first: u64,
    /// The first address mapped.
    base: u64,
    /// How many there are of level 3, 2 and 1.
    counts: [u64; 3],
}

impl Tables {
    /// Tables at `first` for addresses from `base` to `last`.
    pub(crate) fn covering(first: u64, base: u64, last: u64) -> Tables {
        let counts = SHIFTS.map(|shift| (last >> shift) - (base >> shift) + 1);
        Tables {
            first,
            base,
            counts,
        }
    }

    /// How many there are.
    pub(crate) fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The tables of level 3, 2 and 1 by number: how far to shift for a number, the first number, its page, how many.
    fn levels(&self) -> impl Iterator<Item = (u32, u64, u64, u64)> + use<> {
        let mut page = self.first;
        let base = self.base;
        SHIFTS
            .into_iter()
            .zip(self.counts)
            .map(move |(shift, count)| {
                let first_page = page;
                page += count;
                (shift, base >> shift, first_page, count)
            })
    }

    /// The page of a table: of the level whose numbers come by `shift`, the one with this number.
    fn find(&self, shift: u32, number: u64) -> Option<u64> {
        let (_, first, page, count) = self.levels().find(|level| level.0 == shift)?;
        let at = number.checked_sub(first).filter(|at| *at < count)?;
        Some(page + at)
    }
}

/// The tables of a guest: the root, those of its linear mapping, and those of its frame list if that is elsewhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tree {
    pub(crate) root: u64,
    pub(crate) linear: Tables,
    pub(crate) list: Option<Tables>,
}

impl Tree {
    /// The table of the level that `shift` stands for in which `number` is; the linear mapping's where it has one.
    fn table(&self, shift: u32, number: u64) -> Option<u64> {
        let list = self.list.as_ref();
        self.linear
            .find(shift, number)
            .or_else(|| list?.find(shift, number))
    }

    /// The entries that hang tables below tables, parents first.
    pub(crate) fn table_links(&self, link: &mut impl FnMut(Link)) {
        self.hang(&self.linear, link);
        if let Some(list) = &self.list {
            self.hang(list, link);
        }
    }

    fn hang(&self, tables: &Tables, link: &mut impl FnMut(Link)) {
        let mut above = None;
        for (shift, first, page, count) in tables.levels() {
            for at in 0..count {
                let number = first + at;
                let parent = match above {
                    None => Some(self.root),
                    Some(shift) => self.table(shift, number >> 9),
                };
                // Where the linear mapping has a table for the same addresses, that one is used and ours stays empty.
                if self.table(shift, number) == Some(page + at)
                    && let Some(parent) = parent
                {
                    link(Link {
                        table: parent,
                        index: number & 511,
                        to: page + at,
                        writable: true,
                    });
                }
            }
            above = Some(shift);
        }
    }

    /// The entries that map `pages` pages at `address`, from page `first` on.
    pub(crate) fn page_links(
        &self,
        address: u64,
        first: u64,
        pages: u64,
        writable: impl Fn(u64) -> bool,
        link: &mut impl FnMut(Link),
    ) {
        let mut known = None;
        for at in 0..pages {
            let number = (address >> PAGE_SHIFT) + at;
            let table = match known {
                Some((of, table)) if of == number >> 9 => Some(table),
                _ => self.table(SHIFTS[2], number >> 9),
            };
            let Some(table) = table else { continue };
            known = Some((number >> 9, table));
            link(Link {
                table,
                index: number & 511,
                to: first + at,
                writable: writable(first + at),
            });
        }
    }
}
