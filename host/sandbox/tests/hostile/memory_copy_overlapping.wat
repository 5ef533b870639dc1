;; Copies a memory onto itself, over and over.
;; expect: out-of-fuel
(module (memory (export "memory") 512)
  (func (export "_start") (loop $l
    (memory.copy (i32.const 1) (i32.const 0) (i32.const 33554431)) (br $l))))
