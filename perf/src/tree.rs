//! The znodes that a fill left behind: where they are, and who made them.
//!
//! A fill with `create-100:16x32` makes a folder for each of its 16 connections and numbers the znodes in it. Loads
//! over such a tree share its folders out: each znode is read and set by one connection alone, which therefore knows
//! what it must find.

use crate::wire::Random;

/// A tree that was filled.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tree {
    /// The znode above the folders.
    pub root: String,
    /// The znodes of each folder, numbered from 0.
    pub folders: Vec<u32>,
    /// The data of each znode.
    pub data_bytes: usize,
    /// Decided the data.
    pub seed: u64,
    /// Loads work on every `.1`-th znode only, from the `.0`-th on; without it on all.
    pub part: Option<(u32, u32)>,
}

impl Tree {
    /// What stands before the number of a znode in this folder.
    pub fn prefix(&self, folder: u32) -> String {
        folder_prefix(&self.root, folder)
    }

    /// The same tree for a load that works on one of `parts` equal parts of it.
    pub fn part(&self, part: u32, parts: u32) -> Tree {
        Tree { part: Some((part, parts)), ..self.clone() }
    }

    /// A random znode: its folder and its number in it.
    pub fn pick(&self, random: &mut Random) -> (u32, u32) {
        // A folder without znodes has nothing to be read; somebody made the others.
        loop {
            let folder = random.below(self.folders.len() as u32);
            let count = self.folders[folder as usize];
            if count != 0 {
                return (folder, random.below(count));
            }
        }
    }

    /// How many znodes were made in the folders.
    pub fn znodes(&self) -> u64 {
        self.folders.iter().map(|count| u64::from(*count)).sum()
    }

    /// The part of connection `index` of `clients`.
    pub fn share(&self, index: u32, clients: u32) -> Result<Share, String> {
        let folders = self.folders.len() as u32;
        if folders == 0 || !clients.is_multiple_of(folders) {
            return Err(format!("{clients} clients do not share {folders} folders evenly: take a multiple"));
        }
        let (part, parts) = self.part.unwrap_or((0, 1));
        let (folder, first, step) = (index % folders, part + index / folders * parts, clients / folders * parts);
        let there = self.folders[folder as usize];
        if there <= first {
            return Err(format!("folder {folder} has {there} znodes, too few to be shared out among {step}"));
        }
        Ok(Share { folder, first, step, count: (there - first).div_ceil(step) })
    }
}

/// What stands before the number of a znode that connection `index` made below `root`.
pub fn folder_prefix(root: &str, index: u32) -> String {
    format!("{root}/c{index:04x}/")
}

/// The znodes of one connection: every `step`-th of a folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The folder, which is also the connection that made its znodes.
    pub folder: u32,
    /// The first of them.
    pub first: u32,
    /// From one to the next.
    pub step: u32,
    /// How many.
    pub count: u32,
}

impl Share {
    /// The number in the folder of the share's `at`-th znode.
    pub fn node(&self, at: u32) -> u32 {
        self.first + at * self.step
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_hold_every_znode_once() {
        let tree = Tree { root: "/r".to_owned(), folders: vec![5, 7], ..Tree::default() };
        assert_eq!((tree.znodes(), tree.prefix(1).as_str()), (12, "/r/c0001/"));
        for (clients, parts) in [(2, 1), (4, 1), (6, 1), (2, 3), (4, 2)] {
            let mut seen = Vec::new();
            for part in 0..parts {
                for index in 0..clients {
                    let share = tree.part(part, parts).share(index, clients).expect("a multiple of two");
                    seen.extend((0..share.count).map(|at| (share.folder, share.node(at))));
                }
            }
            seen.sort_unstable();
            let all: Vec<(u32, u32)> = (0..5).map(|node| (0, node)).chain((0..7).map(|node| (1, node))).collect();
            assert_eq!(seen, all, "{clients} clients, {parts} parts");
        }
        let mut random = Random::new(1);
        assert!((0..100).map(|_| tree.pick(&mut random)).all(|(folder, node)| node < tree.folders[folder as usize]));
        assert!(tree.share(0, 3).expect_err("odd").contains("a multiple"));
        assert!(tree.share(10, 12).expect_err("more connections than znodes").contains("too few"));
        assert!(Tree::default().share(0, 1).is_err());
    }
}
