// Memory that goes from roll-out to roll-out: faulting in fresh pages would cost more than the arithmetic of a step.
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <mutex>
#include <new>
#include <unordered_map>
#include <vector>

#if defined(__unix__) || defined(__APPLE__)
#include <pthread.h>
#include <sys/mman.h>
#endif

// Chunks of one size, cut from slabs of one huge page each.
class Pool {
 public:
  static constexpr size_t SLAB = (size_t)2 << 20, CHUNK = (size_t)128 << 10, PER_SLAB = SLAB / CHUNK;

  static Pool& get() {
    static Pool* pool = new Pool;  // never destroyed: a tape may outlive the end of main
    return *pool;
  }

  char* take() {
    std::lock_guard<std::mutex> lock(mutex_);
    if (partial_.empty()) add_slab();
    char* slab = partial_.back();
    uint32_t& used = used_[slab];
    int i = __builtin_ctz(~used);
    used |= 1u << i;
    if (used == (1u << PER_SLAB) - 1) partial_.pop_back();
    if (++taken_ > peak_) peak_ = taken_;
    return slab + (size_t)i * CHUNK;
  }

  void give(const std::vector<char*>& chunks) {
    std::lock_guard<std::mutex> lock(mutex_);
    for (char* chunk : chunks) {
      char* slab = (char*)((uintptr_t)chunk & ~(uintptr_t)(SLAB - 1));
      uint32_t& used = used_[slab];
      if (used == (1u << PER_SLAB) - 1) partial_.push_back(slab);
      used &= ~(1u << (size_t)(chunk - slab) / CHUNK);
      taken_--;
    }
  }

  // Keeps what the largest of the last roll-outs needed.
  void settle() {
    std::lock_guard<std::mutex> lock(mutex_);
    trim(peak_);
    peak_ = peak_ - peak_ / 8 > taken_ ? peak_ - peak_ / 8 : taken_;
  }

  int64_t bytes(bool empty) {
    std::lock_guard<std::mutex> lock(mutex_);
    if (empty) trim(0), peak_ = taken_;
    return (int64_t)(used_.size() * SLAB);
  }

 private:
  Pool() {
#if defined(__unix__) || defined(__APPLE__)
    // A child of fork must not find the lock held by a thread that it does not have.
    pthread_atfork([] { get().mutex_.lock(); }, [] { get().mutex_.unlock(); }, [] { get().mutex_.unlock(); });
#endif
  }

  void add_slab() {
    char* slab = (char*)aligned_alloc(SLAB, SLAB);
    if (!slab) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    madvise(slab, SLAB, MADV_HUGEPAGE);
#endif
    used_[slab] = 0;
    partial_.push_back(slab);
  }

  void trim(size_t keep) {
    size_t slabs = (keep + PER_SLAB - 1) / PER_SLAB, spare = used_.size() > slabs ? used_.size() - slabs : 0;
    for (size_t i = 0; i < partial_.size() && spare;) {
      char* slab = partial_[i];
      if (used_[slab]) {
        i++;
        continue;
      }
      used_.erase(slab), free(slab), spare--;
      partial_[i] = partial_.back(), partial_.pop_back();
    }
  }

  std::mutex mutex_;
  std::unordered_map<char*, uint32_t> used_;  // slab to the bits of its chunks that are taken
  std::vector<char*> partial_;                // slabs with a free chunk
  size_t taken_ = 0, peak_ = 0;               // chunks
};

// Bytes written one after the other into chunks, and read again in the same order.
class Stream {
 public:
  struct Place {
    size_t chunk = 0, offset = 0;
  };

  Stream() = default;
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() { clear(); }

  void clear() {
    Pool::get().give(chunks_);
    chunks_.clear();
    end_ = Place();
    written_ = 0;
  }

  // Room for n bytes in a row, after which `slack` more may be touched. n + slack fits into a chunk.
  void* write(size_t n, size_t slack = 0) {
    if (chunks_.empty() || end_.offset + n + slack > Pool::CHUNK) {
      if (n + slack > Pool::CHUNK) throw std::bad_alloc();  // Native.refusal knows
      chunks_.reserve(chunks_.size() + 1);  // so that a chunk which was taken cannot be lost
      chunks_.push_back(Pool::get().take());
      end_ = {chunks_.size() - 1, 0};
    }
    void* p = chunks_[end_.chunk] + end_.offset;
    end_.offset += n, written_ += n;
    return p;
  }

  // What write() returned for the same n and slack at this place; the place moves on.
  const void* read(Place& at, size_t n, size_t slack = 0) const {
    if (at.offset + n + slack > Pool::CHUNK) at = {at.chunk + 1, 0};
    const void* p = chunks_[at.chunk] + at.offset;
    at.offset += n;
    return p;
  }

  Place end() const { return end_; }
  size_t written() const { return written_; }

 private:
  std::vector<char*> chunks_;
  Place end_;
  size_t written_ = 0;
};

// Plain memory at the beginning of a cache line.
enum class Fill { zeros, nothing };

template <class T>
class Buffer {
 public:
  Buffer() = default;
  explicit Buffer(size_t n, Fill fill = Fill::zeros) : size_(n) {
    size_t bytes = (n * sizeof(T) + 63) / 64 * 64 + 64, align = bytes >= Pool::SLAB ? Pool::SLAB : 64;
    bytes = (bytes + align - 1) / align * align;
    data_ = (T*)aligned_alloc(align, bytes);
    if (!data_) throw std::bad_alloc();
#if defined(MADV_HUGEPAGE)
    if (align == Pool::SLAB) madvise(data_, bytes, MADV_HUGEPAGE);
#endif
    if (fill == Fill::zeros) memset((void*)data_, 0, bytes);
  }
  Buffer(Buffer&& o) noexcept : data_(o.data_), size_(o.size_) { o.data_ = nullptr, o.size_ = 0; }
  Buffer& operator=(Buffer&& o) noexcept {
    T* d = data_;
    data_ = o.data_, o.data_ = d;
    size_t s = size_;
    size_ = o.size_, o.size_ = s;
    return *this;
  }
  ~Buffer() { free(data_); }
  operator T*() const { return data_; }
  T* get() const { return data_; }
  size_t size() const { return size_; }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};
