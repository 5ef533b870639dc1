;; Grows for as long as it can pay for it.
;; expect: out-of-fuel
(module (memory (export "memory") 1)
  (func (export "_start") (loop $l (drop (memory.grow (i32.const 1))) (br $l))))
