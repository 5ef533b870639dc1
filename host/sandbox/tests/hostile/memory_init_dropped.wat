;; Reads a segment that is gone.
;; expect: trap
(module (memory (export "memory") 1) (data $d "abc")
  (func (export "_start")
    (memory.init $d (i32.const 0) (i32.const 0) (i32.const 3))
    (data.drop $d)
    (memory.init $d (i32.const 0) (i32.const 0) (i32.const 3))))
