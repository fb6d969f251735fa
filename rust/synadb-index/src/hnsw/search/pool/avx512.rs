//! Insertion into a queue that lies in registers, for AVX-512.
#![allow(unsafe_code)]

use std::arch::x86_64::{
    __m512i, _mm_cvtsi128_si64, _mm512_alignr_epi64, _mm512_castsi512_si128, _mm512_loadu_si512,
    _mm512_max_epu64, _mm512_min_epu64, _mm512_set1_epi64, _mm512_setzero_si512,
    _mm512_storeu_si512,
};

use super::{Block, LANES};

/// Blocks that are in registers at once: half of those that there are.
const CHUNK: usize = 16;

/// As [`InsertKernel`](super::InsertKernel).
pub(super) fn insert(blocks: &mut [Block], fresh: &mut [u64]) {
    for blocks in blocks.chunks_mut(CHUNK) {
        // SAFETY: this function is reachable only through `insert_kernel`, which hands it out only
        // after it has found AVX-512F.
        unsafe { insert_into_chunk(blocks, fresh) }
    }
}

/// Calls the function for so many blocks, of which there is one for each number up to a chunk.
#[target_feature(enable = "avx512f")]
fn insert_into_chunk(blocks: &mut [Block], fresh: &mut [u64]) {
    match blocks.len() {
        0 => {}
        1 => insert_into::<1>(blocks, fresh),
        2 => insert_into::<2>(blocks, fresh),
        3 => insert_into::<3>(blocks, fresh),
        4 => insert_into::<4>(blocks, fresh),
        5 => insert_into::<5>(blocks, fresh),
        6 => insert_into::<6>(blocks, fresh),
        7 => insert_into::<7>(blocks, fresh),
        8 => insert_into::<8>(blocks, fresh),
        9 => insert_into::<9>(blocks, fresh),
        10 => insert_into::<10>(blocks, fresh),
        11 => insert_into::<11>(blocks, fresh),
        12 => insert_into::<12>(blocks, fresh),
        13 => insert_into::<13>(blocks, fresh),
        14 => insert_into::<14>(blocks, fresh),
        15 => insert_into::<15>(blocks, fresh),
        _ => insert_into::<CHUNK>(blocks, fresh),
    }
}

/// A new item goes where the item before is smaller and its own is larger: each place then holds the
/// larger one of its left neighbour and the smaller one of its own and the new item. What falls out
/// at the end goes into the chunk behind.
#[target_feature(enable = "avx512f")]
fn insert_into<const BLOCKS: usize>(blocks: &mut [Block], fresh: &mut [u64]) {
    let blocks = blocks.first_chunk_mut::<BLOCKS>().expect("as many blocks");
    let mut queue = [_mm512_setzero_si512(); BLOCKS];
    for (register, block) in queue.iter_mut().zip(&*blocks) {
        *register = load(block);
    }
    for item in fresh {
        let wide = _mm512_set1_epi64(item.cast_signed());
        let mut before = _mm512_setzero_si512();
        for register in &mut queue {
            let moved = _mm512_alignr_epi64::<LAST>(*register, before);
            before = *register;
            *register = _mm512_max_epu64(moved, _mm512_min_epu64(before, wide));
        }
        let last = _mm512_castsi512_si128(_mm512_alignr_epi64::<LAST>(before, before));
        *item = (*item).max(_mm_cvtsi128_si64(last).cast_unsigned());
    }
    for (register, block) in queue.iter().zip(blocks) {
        store(*register, block);
    }
}

/// Place of the last item of a block.
const LAST: i32 = LANES as i32 - 1;

#[target_feature(enable = "avx512f")]
fn load(block: &Block) -> __m512i {
    // SAFETY: a block has the size of the register; the load needs no alignment.
    unsafe { _mm512_loadu_si512(block.as_ptr().cast()) }
}

#[target_feature(enable = "avx512f")]
fn store(register: __m512i, block: &mut Block) {
    // SAFETY: as in `load`, and the block is borrowed exclusively.
    unsafe { _mm512_storeu_si512(block.as_mut_ptr().cast(), register) }
}
