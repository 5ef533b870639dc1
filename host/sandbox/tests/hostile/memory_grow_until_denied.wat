;; Grows until it is denied, touches all of it and aborts, as an allocator does.
;; expect: memory-limit
(module (memory (export "memory") 1)
  (func (export "_start")
    (loop $l (br_if $l (i32.ne (memory.grow (i32.const 1)) (i32.const -1))))
    (memory.fill (i32.const 0) (i32.const 7) (i32.const 1000000))
    unreachable))
