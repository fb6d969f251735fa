//! The queue of a search and the set of nodes it has seen.

/// Bit of an item that says its node was visited.
const VISITED: u64 = 1;

/// A bounded sorted queue of nodes by distance, with a cursor at the nearest one not visited.
///
/// An item is one number: the order of the distance, the node, the mark. Node numbers are below
/// 2^31.
#[derive(Debug, Default)]
pub(crate) struct Pool {
    items: Vec<u64>,
    capacity: usize,
    cursor: usize,
}

impl Pool {
    pub(crate) fn reset(&mut self, capacity: usize) {
        self.items.clear();
        self.items.reserve(capacity + 1);
        self.capacity = capacity;
        self.cursor = 0;
    }

    /// Distance at which a node is refused: infinite while there is room.
    pub(crate) fn limit(&self) -> f32 {
        if self.items.len() < self.capacity {
            return f32::INFINITY;
        }
        self.items.last().map_or(f32::INFINITY, |&item| distance_of(item))
    }

    /// Adds a node; it may be there already with another distance.
    #[inline]
    pub(crate) fn insert(&mut self, distance: f32, node: u32) {
        let item = u64::from(order_of(distance)) << 32 | u64::from(node) << 1;
        let place = self.items.partition_point(|&other| other < item);
        if self.items.len() == self.capacity {
            if place == self.capacity {
                return;
            }
            self.items.copy_within(place..self.capacity - 1, place + 1);
            self.items[place] = item;
        } else {
            self.items.insert(place, item);
        }
        self.cursor = self.cursor.min(place);
    }

    /// Takes the nearest node that was not visited, with its distance, and marks it.
    pub(crate) fn pop(&mut self) -> Option<(f32, u32)> {
        let item = self.items.get_mut(self.cursor)?;
        *item |= VISITED;
        let found = (distance_of(*item), node_of(*item));
        self.skip();
        Some(found)
    }

    /// The nodes of the queue.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = u32> {
        self.items.iter().map(|&item| node_of(item))
    }

    fn skip(&mut self) {
        while self.items.get(self.cursor).is_some_and(|item| item & VISITED != 0) {
            self.cursor += 1;
        }
    }
}

/// Bits in the order of the numbers, negative ones included.
fn order_of(distance: f32) -> u32 {
    let bits = distance.to_bits();
    if bits >> 31 == 0 { bits | 1 << 31 } else { !bits }
}

fn distance_of(item: u64) -> f32 {
    let order = (item >> 32) as u32;
    f32::from_bits(if order >> 31 == 1 { order & !(1 << 31) } else { !order })
}

fn node_of(item: u64) -> u32 {
    (item as u32) >> 1
}

/// A set of nodes that is emptied by undoing what was added: a bit each, so that it stays in the
/// caches while the blocks of the graph pass through them.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    words: Vec<u64>,
    /// Words that are not zero.
    used: Vec<u32>,
}

impl Seen {
    pub(crate) fn reset(&mut self, nodes: usize) {
        for word in self.used.drain(..) {
            self.words[word as usize] = 0;
        }
        let words = nodes.div_ceil(u64::BITS as usize);
        if self.words.len() < words {
            self.words.resize(words, 0);
        }
    }

    /// Adds a node; true when it is new.
    #[inline]
    pub(crate) fn insert(&mut self, node: u32) -> bool {
        let (index, bit) = (node / u64::BITS, 1 << (node % u64::BITS));
        let word = &mut self.words[index as usize];
        if *word == 0 {
            self.used.push(index);
        }
        let new = *word & bit == 0;
        *word |= bit;
        new
    }

    #[inline]
    pub(crate) fn contains(&self, node: u32) -> bool {
        self.words[(node / u64::BITS) as usize] >> (node % u64::BITS) & 1 == 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_nodes_come_in_order() {
        let mut pool = Pool::default();
        pool.reset(5);
        for (node, distance) in [3.0, -1.0, 0.5, -2.0, 7.0, 0.0, 9.0].into_iter().enumerate() {
            pool.insert(distance, node as u32);
        }
        assert_eq!(pool.limit(), 3.0);
        assert_eq!(pool.pop(), Some((-2.0, 3)));
        assert_eq!(pool.pop(), Some((-1.0, 1)));
        // A nearer node moves the cursor back, and visited ones are skipped.
        pool.insert(-1.5, 9);
        assert_eq!(pool.pop(), Some((-1.5, 9)));
        assert_eq!(pool.pop(), Some((0.0, 5)));
        assert_eq!(pool.pop(), Some((0.5, 2)));
        assert_eq!(pool.pop(), None);
    }

    #[test]
    fn a_set_is_emptied_by_every_reset() {
        let mut seen = Seen::default();
        for round in 0..1000 {
            seen.reset(200);
            let (one, other) = (round * 7 % 200, (round * 7 + 63) % 200);
            assert!(seen.insert(one) && !seen.insert(one) && seen.insert(other));
            let found: Vec<u32> = (0..200).filter(|&node| seen.contains(node)).collect();
            assert_eq!(found, [one.min(other), one.max(other)]);
        }
    }
}
