;; Few operators, much work.
;; expect: out-of-fuel
(module (memory (export "memory") 512)
  (func (export "_start") (loop $l
    (memory.fill (i32.const 0) (i32.const 1) (i32.const 33554432)) (br $l))))
